"""Backend `argo`: the graph as Argo Workflows objects, and the cluster they run on."""
