"""``python -m paperworks.papers.active_learn FOLDER``: a saved policy asks in the terminal."""

from paperworks.papers.active_learn.interactive import main

raise SystemExit(main())
