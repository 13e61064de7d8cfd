"""What the suite found."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One check of one capability, or of the plugin as a whole.

    Attributes:
        subject: ``plugin``, ``action greet`` or ``trigger order``.
        check: What was tried, in a few words.
        fault: What is wrong and how to mend it; None: nothing.
    """

    subject: str
    check: str
    fault: str | None = None


@dataclass
class Report:
    """Every verdict, in the order they were reached."""

    verdicts: list[Verdict] = field(default_factory=list)

    def add(self, subject: str, check: str, fault: str | None) -> None:
        """Add a verdict."""
        self.verdicts.append(Verdict(subject=subject, check=check, fault=fault))

    @property
    def faults(self) -> list[Verdict]:
        """The verdicts that are not good."""
        return [verdict for verdict in self.verdicts if verdict.fault is not None]
