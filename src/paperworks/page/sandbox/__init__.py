"""Runs that are kept away from the machine: what a reader's file makes a recipe do stays in one folder.

confinement.py   which confinement this machine has, and what a run may read
bubblewrap.py    namespaces of its own: nothing else of the system is visible, no network
landlock.py      where there are no namespaces: the kernel's own rules for files (Landlock) and calls (seccomp)
child.py         what starts in the confinement: limits, then the run
"""
