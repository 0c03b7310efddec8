"""Runtime environments: the files, packages and variables that a job, task or actor runs with.

The process that submits canonicalises an environment, a worker enters it:

    fields.py        what users may write, checked and normalised field by field
    packaging.py     a folder as a package: which files, its name by content, its upload
    resolution.py    an environment as text, merged with the one it is requested in
    sources.py       what a URI names, brought to this node
    cache.py         what is built or unpacked once a node and shared by its workers
    interpreters.py  Python environments of pip, uv and conda
    setup.py         a worker enters its environment before it serves anybody

The interface for users is ``ray.runtime_env``; docs/runtime_env.md describes the whole.
"""
