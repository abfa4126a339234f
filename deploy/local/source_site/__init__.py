"""The embedded source site: the bundled real data over HTTPS, in the shapes and under the names of the official APIs.

`python -m deploy.local.source_site --port P --ca-dir DIR [--data-dir DIR]` serves every host that the data names, with
a certificate of a private authority kept in DIR. It says in each answer that it is not the host it stands for.
"""
