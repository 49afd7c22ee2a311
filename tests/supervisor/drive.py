"""Runs the supervisor as `python -m ckptd` does, with another worker program.

Arguments: settings as JSON, ready fd, command.
"""

import json
import sys

from ckptd.settings.models import Settings
from ckptd.supervisor.announce import Announcer
from ckptd.supervisor.serve import serve

sys.exit(serve(Settings.model_validate(json.loads(sys.argv[1])), Announcer(int(sys.argv[2])), command=sys.argv[3:]))
