"""The panels of a report: a module each, with ``panel(story) -> Panel | None``."""
