"""`make demo`: makes thumbnails of pictures with a real queue, a real worker, real rows and files.

- `__main__.py`  the run: store, dispatch, watch, report; and its exit codes
- `pictures.py`  the pictures: the files of a folder, or a dozen drawn ones
- `uploads.py`   stores a picture as a file of the demo's user
- `worker.py`    starts, watches and stops the worker process
- `progress.py`  watches the rows until every picture has ended
- `tour.py`      a batch, a report, an import and a webhook
- `screen.py`    the progress bar and the table, or plain lines without a terminal
- `interrupt.py` Ctrl-C as a flag, read between two steps
"""
