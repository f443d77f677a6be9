"""JSON Schemas of what kubernetes/ holds, strict: a field that is not known is refused.

``tests/docs/schemas/kuberay.yaml`` has KubeRay's own types, ``kubernetes.json`` those of Kubernetes
that they contain. The second file is made from a package, with another version for another file::

    pip download --no-deps kubernetes-validate==1.37.0 && unzip kubernetes_validate-*.whl
    python -m tests.helpers.kubernetes_schemas \\
      kubernetes_validate/kubernetes-json-schema/v1.33.0-local-strict/_definitions.json
"""

import json
import sys
from functools import cache
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

from tests.helpers.checkout import REPOSITORY

SCHEMAS = REPOSITORY / "tests" / "docs" / "schemas"
KUBERAY = yaml.safe_load((SCHEMAS / "kuberay.yaml").read_text())
KUBERNETES = SCHEMAS / "kubernetes.json"

PREFIX = "io.k8s.api."
ROOTS = ("core.v1.PodTemplateSpec", "core.v1.Service", "core.v1.PersistentVolumeClaim")
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"


@cache
def validator_of(kind):
    """A validator of documents of this kind, such as RayJob."""
    definitions = json.loads(KUBERNETES.read_text())["$defs"]
    definitions[QUANTITY] = {"anyOf": [{"type": "integer"}, KUBERAY["quantity"]]}
    metadata = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    for name, fields in KUBERAY["types"].items():
        definitions[name] = {
            "type": "object",
            "properties": {field: _expand(value) for field, value in fields.items()},
            "required": KUBERAY["required"].get(name, []),
            "additionalProperties": False,
        }
    for name in ("RayJob", "RayService"):
        definitions[name]["properties"] |= {"metadata": metadata}
    name = kind if kind in definitions else f"{PREFIX}core.v1.{kind}"
    schema = {"$ref": f"#/$defs/{name}", "required": ["apiVersion", "kind", "metadata", "spec"]}
    schema["$defs"] = definitions
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _expand(value):
    """The schema of a field of kuberay.yaml, whose head says how fields are written."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list):
        return {"type": "array", "items": _expand(value[0])}
    if value in ("string", "boolean", "integer", "number"):
        return {"type": value}
    if value == "strings":
        return {"type": "object", "additionalProperties": {"type": "string"}}
    name = f"{PREFIX}{value}" if value.startswith("core.") else value
    return {"$ref": f"#/$defs/{name}"}


def reduce_definitions(definitions):
    """The definitions that the roots need, without descriptions and without null for a value."""
    found, waiting = {}, [f"{PREFIX}{name}" for name in ROOTS]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _reduce(definitions[name])
            waiting += [ref.rpartition("/")[2] for ref in _references(found[name])]
    return dict(sorted(found.items()))


def _reduce(schema, is_names=False):
    """A schema, or the schemas of the names of ``properties``."""
    if isinstance(schema, list):
        kept = [_reduce(part) for part in schema if part != "null"]
        return kept[0] if kept and len(kept) < len(schema) and len(kept) == 1 else kept
    if not isinstance(schema, dict):
        return schema
    return {
        name: _reduce(part, not is_names and name == "properties")
        for name, part in schema.items()
        if is_names or not name.startswith(("description", "title", "x-"))
    }


def _references(schema):
    if isinstance(schema, dict):
        for name, part in schema.items():
            if name == "$ref" and isinstance(part, str):
                yield part
            else:
                yield from _references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _references(part)


def main(path):
    """Write kubernetes.json from the definitions of a version of Kubernetes."""
    definitions = reduce_definitions(json.loads(Path(path).read_text())["$defs"])
    version = Path(path).parent.name.removesuffix("-local-strict")
    source = {
        "source": f"Kubernetes {version} (Apache-2.0), OpenAPI as JSON Schema",
        "package": "kubernetes-validate 1.37.0",
    }
    text = json.dumps(source | {"$defs": definitions}, separators=(",", ":"))
    KUBERNETES.write_text(text.replace('},"io.k8s', '},\n"io.k8s') + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
