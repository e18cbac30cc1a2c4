#!/usr/bin/env bash
# Prints the Python to make the virtual environment with: the first of $PYTHON, python3 and its
# numbered names that really runs (a pyenv shim may not) and is 3.11 or later.
set -u
for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
  [ -n "$candidate" ] || continue
  found=$("$candidate" -c 'import sys
if sys.version_info < (3, 11): sys.exit(1)
print(sys.executable)' 2>/dev/null) && [ -n "$found" ] && { echo "$found"; exit 0; }
done
echo "cloudctl needs Python 3.11 or later and found none (looked for \$PYTHON, python3, python3.11 to 3.13)" >&2
exit 1
