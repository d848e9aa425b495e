"""The publisher library: jobs, clients, a cluster on this machine."""
