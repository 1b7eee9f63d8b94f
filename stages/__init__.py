"""The data plane: what runs inside containers. A stage is a function from artifacts to artifacts.

`python -m stages.<stage> --run URI --iteration I [--split S] [--part K/N]` is the only command a container runs; the
same line runs under Argo, as a plain process on one machine, and in a test. Nothing here knows Argo or Kubernetes.
"""

__version__ = "0.1.0"
