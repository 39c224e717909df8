"""Voters of a metadata quorum, added and removed by kafka-metadata-quorum."""

from __future__ import annotations

from harness.brokers import read_properties
from harness.cluster.cluster import Cluster
from harness.java_tools import METADATA_QUORUM, ToolHost


def add(tools: ToolHost, cluster: Cluster, node_id: int) -> None:
    """Have a node vote that follows the quorum."""
    added = _run(tools, cluster, "--command-config", str(cluster.node(node_id).properties_path), "add-controller")
    assert f"Added controller {node_id} with directory id {_directory_id(cluster, node_id)}" in added


def remove(tools: ToolHost, cluster: Cluster, node_id: int) -> None:
    """Have it vote no more."""
    named = ("--controller-id", str(node_id), "--controller-directory-id", _directory_id(cluster, node_id))
    assert f"KRaft controller {node_id} with directory id" in _run(tools, cluster, "remove-controller", *named)


def _run(tools: ToolHost, cluster: Cluster, *arguments: str) -> str:
    result = tools.run(METADATA_QUORUM, "--bootstrap-controller", cluster.controller_address, *arguments)
    assert result.code == 0, f"{result.out}\n{result.err}"
    return result.out


def _directory_id(cluster: Cluster, node_id: int) -> str:
    return read_properties(cluster.node(node_id).data_dir / "meta.properties")["directory.id"]
