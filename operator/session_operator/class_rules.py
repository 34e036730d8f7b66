"""The rules of this installation for SessionClasses: lists of the Secrets, labels, annotations, … that they may use.

The chart's admission policy rejects a class with the same sentence when it is written.  This check holds on clusters
without admission policies too, and for classes that were written before a list was shortened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from session_manager.runtime.kubernetes.session_class import ClassSpec

EVERY = "*"  # at the end of an entry: every name that begins with the rest


@dataclass(frozen=True, slots=True)
class ClassRules:
    """The names that classes may use. ``reserved``: Secrets of the service, which no class may use."""

    secrets: tuple[str, ...] = ()
    reserved: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    runtime_classes: tuple[str, ...] = ()
    priority_classes: tuple[str, ...] = ()

    def refusal(self, spec: ClassSpec) -> str:
        """Return the first rule that the class breaks, and the remedy; "" if it breaks none."""
        template = spec.template
        secrets = [name for name in secrets_of(spec) if name in self.reserved or _outside(self.secrets, [name])]
        found = (
            _sentence("Secrets", secrets, "allowedSecrets"),
            _sentence("labels", _outside(self.labels, template.labels), "allowedLabels"),
            _sentence("annotations", _outside(self.annotations, template.annotations), "allowedAnnotations"),
            _sentence(
                "RuntimeClass", _outside(self.runtime_classes, _one(spec.runtime_class)), "allowedRuntimeClasses"
            ),
            _sentence(
                "PriorityClass",
                _outside(self.priority_classes, _one(template.priority_class)),
                "allowedPriorityClasses",
            ),
        )
        return next(filter(None, found), "")


def secrets_of(spec: ClassSpec) -> Iterator[str]:
    """Yield the Secrets that the class names, in the order of its fields."""
    for variable in spec.env:
        if "valueFrom" in variable:
            yield variable["valueFrom"]["secretKeyRef"]["name"]
    for source in spec.env_from:
        yield source["secretRef"]["name"]
    yield from spec.image_pull_secrets


def _one(name: str | None) -> tuple[str, ...]:
    return () if name is None else (name,)


def _outside(allowed: tuple[str, ...], used: Iterable[str]) -> list[str]:
    return [name for name in used if not any(_matches(entry, name) for entry in allowed)]


def _matches(entry: str, name: str) -> bool:
    return name.startswith(entry.removesuffix(EVERY)) if entry.endswith(EVERY) else name == entry


def _sentence(kind: str, names: list[str], value: str) -> str:
    if not names:
        return ""
    return (
        f"this SessionClass may not use the {kind} {', '.join(names)}; "
        f"the chart's value sessions.{value} lists those it may use"
    )
