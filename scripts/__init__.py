"""Commands for people and CI: setting up, the demo. No part of the installed product."""
