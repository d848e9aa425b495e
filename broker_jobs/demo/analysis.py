"""The functions of the demo, which run in workers: what is in a Python source file.

They know nothing of broker-jobs: plain functions of plain values, as anybody would write them.
"""

from __future__ import annotations

import ast
import collections
import io
import tokenize
from pathlib import Path
from typing import Any

Outline = dict[str, Any]
"""What `parse` found: file, text lines, functions with their lines and branches, names; or the error of the parser."""

_BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.comprehension, ast.Assert, ast.match_case)
_NOT_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER)


def parse(root: str, file: str) -> Outline:
    """The outline of one source file. A file that is no Python is a finding, not a failure."""
    data = (Path(root) / file).read_bytes()
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError) as error:
        return {"file": file, "bytes": len(data), "error": f"{type(error).__name__}: {error}"}
    functions = [
        (node.name, node.lineno, node.end_lineno or node.lineno, sum(map(_branches, ast.walk(node))))
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    names = collections.Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return {"file": file, "bytes": len(data), "functions": functions, "names": dict(names.most_common(50)), "lines": _lines(data)}


def _branches(node: ast.AST) -> int:
    """Decisions that a node adds to a function."""
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    return int(isinstance(node, _BRANCHES))


def _lines(data: bytes) -> tuple[int, int, int]:
    """Lines in all, with code, and with a comment."""
    code: set[int] = set()
    comments: set[int] = set()
    for token in tokenize.tokenize(io.BytesIO(data).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in _NOT_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return data.count(b"\n") + (not data.endswith(b"\n")), len(code), len(comments)


def size(outline: Outline) -> dict[str, int]:
    """Bytes, lines, lines of code and of comment of a file."""
    lines, code, comments = outline.get("lines", (0, 0, 0))
    return {"bytes": outline["bytes"], "lines": lines, "code": code, "comments": comments}


def functions(outline: Outline) -> dict[str, Any]:
    """How many functions a file has, and its longest one as (lines, name)."""
    found = outline.get("functions", [])
    longest = max(((end - start + 1, f"{outline['file']}:{name}") for name, start, end, _ in found), default=(0, ""))
    return {"count": len(found), "longest": longest}


def complexity(outline: Outline) -> list[tuple[int, str]]:
    """The cyclomatic complexity (McCabe 1976: decisions + 1) of the five most complex functions of a file."""
    return sorted(((branches + 1, f"{outline['file']}:{name}") for name, _, _, branches in outline.get("functions", [])), reverse=True)[:5]


def write_names(outlines: list[Outline], folder: str) -> int:
    """Write every name of the outlines into ``names.txt``, once for each file that uses it; how many lines that made."""
    names = [name for outline in outlines for name in outline.get("names", {})]
    Path(folder, "names.txt").write_text("\n".join(names) + "\n", encoding="utf-8", errors="replace")
    return len(names)


def summarize(
    outlines: list[Outline], sizes: list[dict[str, int]], found: list[dict[str, Any]], complex_: list[list[Any]]
) -> dict[str, Any]:
    """The report of one group of files, from the results of the tasks before it."""
    return {
        "files": len(outlines),
        **{key: sum(one[key] for one in sizes) for key in ("bytes", "lines", "code", "comments")},
        "functions": sum(one["count"] for one in found),
        "longest": max(tuple(one["longest"]) for one in found),
        "complex": sorted((tuple(pair) for five in complex_ for pair in five), reverse=True)[:5],
        "unreadable": [(outline["file"], outline["error"]) for outline in outlines if "error" in outline],
        "largest": sorted(((one["code"], outline["file"]) for one, outline in zip(sizes, outlines, strict=True)), reverse=True)[:5],
    }


def total(groups: dict[str, dict[str, Any]], folder: str) -> dict[str, Any]:
    """The report of all groups, with the names that most files use."""
    counted = [line.split() for line in Path(folder, "counted.txt").read_text(encoding="utf-8", errors="replace").splitlines()]
    reports = list(groups.values())
    return {
        "groups": {name: (report["files"], report["code"], report["functions"]) for name, report in groups.items()},
        **{key: sum(report[key] for report in reports) for key in ("files", "bytes", "lines", "code", "comments", "functions")},
        "longest": max(report["longest"] for report in reports),
        "complex": sorted((pair for report in reports for pair in report["complex"]), reverse=True)[:5],
        "largest": sorted((pair for report in reports for pair in report["largest"]), reverse=True)[:5],
        "unreadable": [pair for report in reports for pair in report["unreadable"]],
        "names": sorted(((int(count), name) for count, name in counted), reverse=True)[:8],
        "packed": Path(folder, "names.txt.gz").stat().st_size,
    }
