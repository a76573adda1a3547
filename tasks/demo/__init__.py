"""`make demo`: pictures in, thumbnails out, through a real queue, a real worker, real rows and
files.

- `__main__.py`  the story: store, dispatch, watch, tell; and what a bad argument or a dead worker ends in
- `pictures.py`  where the pictures come from: a folder, or a dozen drawn here
- `uploads.py`   a picture becomes a file of the demo's user
- `worker.py`    the worker process: started, watched, stopped, with nothing left of it
- `screen.py`    the progress bar and the table, or plain lines where there is no terminal
- `interrupt.py` Ctrl-C as a flag that is looked at between two steps
"""
