"""`python -m services.pattern [serve|replay|verify]`."""

from runtime.process import main

from services.pattern.app import build
from services.pattern.settings import PatternSettings

if __name__ == "__main__":
    main("pattern", build, settings=PatternSettings)
