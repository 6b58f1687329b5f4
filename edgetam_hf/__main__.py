"""`python -m edgetam_hf`: the console command."""

import sys

from edgetam_cli import main

if __name__ == "__main__":
    sys.exit(main())
