"""Write the README's table of settings from the code; with --check, fail where they differ."""

import sys
from pathlib import Path

from gateway.settings import settings_table

README = Path(__file__).parents[1] / "README.md"
START, END = "<!-- settings", "<!-- /settings -->"


def main() -> None:
    """Replace what stands between the two marks."""
    text = README.read_text()
    start = text.index("\n", text.index(START)) + 1
    written = text[:start] + settings_table() + "\n" + text[text.index(END) :]
    if "--check" in sys.argv and written != text:
        sys.exit("The README's table of settings is not that of the code: run 'make readme'.")
    README.write_text(written)


if __name__ == "__main__":
    main()
