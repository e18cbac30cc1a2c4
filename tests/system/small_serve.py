"""`serve` with the small tree of these tests in place of the product: small_serve.py STATE_FOLDER [READY_FD]."""

import sys
from pathlib import Path

from orchestration.serve import Children, Serve
from orchestration.served_process import ServedProcess
from orchestration.state_folder import StateFolder

folder = StateFolder(Path(sys.argv[1]))
folder.prepare()
lock = folder.lock()
beating = [sys.executable, str(Path(__file__).with_name("beating_process.py"))]
launcher = [sys.executable, "-m", "otp.distribution.launcher", "--run-dir", str(folder.run)]
launcher += ["--cookie-file", str(folder.cookie), "--root", "node_tree:root"]
children = Children(
    orchestration=ServedProcess("orchestration", folder.run, folder.log, beating, beats=True),
    launcher=ServedProcess("launcher", folder.run, folder.log, launcher, beats=True),
    devices=ServedProcess("devices", folder.run, folder.log, ["sleep", "1000"], beats=False),
)
sys.exit(Serve(folder, children, int(sys.argv[2]) if sys.argv[2:] else None).run())
