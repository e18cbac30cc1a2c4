"""Stands for an orchestration node: ready at once, wants devices, beats until it is told to hang."""

import os
import signal
import sys
import time

hangs = []
signal.signal(signal.SIGUSR1, lambda *_: hangs.append(True))
pipe = int(sys.argv[sys.argv.index("--heartbeat-fd") + 1])
os.write(pipe, b"ready\nwant devices\n")
while True:
    if not hangs:
        os.write(pipe, b"alive\n")
    time.sleep(0.2)
