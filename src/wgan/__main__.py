"""``python -m wgan``."""

import sys

from wgan.cli import main

sys.exit(main())
