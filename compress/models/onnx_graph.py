"""What an ONNX file notes about where its nodes came from."""

import ast

import onnx


def module_of(node: onnx.NodeProto) -> str | None:
    """Name of the torch module that a node of an exported file came from, as the exporter notes."""
    scopes = next((p.value for p in node.metadata_props if p.key.endswith("name_scopes")), "[]")
    modules = [name for name in ast.literal_eval(scopes) if name]
    return modules[-2] if len(modules) >= 2 else None
