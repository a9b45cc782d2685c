"""What an ONNX file notes about where its nodes came from."""

import ast

import onnx

SCOPES = "name_scopes"  # ends the name of what the exporter notes of a node's module


def forget_machine(model: onnx.ModelProto) -> None:
    """Remove in place what the exporter notes beside the network, but for its nodes' modules: stack
    traces hold the paths of source files on this machine."""
    for node in model.graph.node:
        kept = [(p.key, p.value) for p in node.metadata_props if p.key.endswith(SCOPES)]
        del node.metadata_props[:]
        for key, value in kept:
            node.metadata_props.add(key=key, value=value)
    graph = model.graph
    for noted in (graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del noted.metadata_props[:]


def module_of(node: onnx.NodeProto) -> str | None:
    """Name of the torch module that a node of an exported file came from, as the exporter notes."""
    scopes = next((p.value for p in node.metadata_props if p.key.endswith(SCOPES)), "[]")
    modules = [name for name in ast.literal_eval(scopes) if name]
    return modules[-2] if len(modules) >= 2 else None
