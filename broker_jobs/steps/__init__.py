"""Steps: Python functions with a name, a version, and JSON schemas of what goes in and comes out.

`declaring` makes them from functions, `signature` reads annotations (with pydantic), and `checking` holds parameters against a
schema on the side of who calls (with jsonschema), where the function itself is not at hand.
"""

from broker_jobs.steps.declaring import Step, declared, step, steps_in
from broker_jobs.steps.slots import InputData, OutputCollection, OutputData, Slot

__all__ = ["InputData", "OutputCollection", "OutputData", "Slot", "Step", "declared", "step", "steps_in"]
