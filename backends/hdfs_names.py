"""How keys and uploads lie in HDFS, and what HDFS does not take as a name.

<root>/run-42/checkpoint-1200/model.safetensors    key `run-42/checkpoint-1200/model.safetensors`
<root>/.ckptd/tmp/<uuid>/                          an upload in parts; its name is the upload id
<root>/.ckptd/tmp/<uuid>/for/<key>/                folders that say which key it is meant for: made before anything else
<root>/.ckptd/tmp/<uuid>/<number>-<8 hex>          a part; each attempt writes a file of its own
<root>/.ckptd/tmp/put-<uuid>                       a small object on its way: left over only by a crash

HDFS refuses `:` in names (`DFSUtilClient.isValidName`). It is written `%3A`, and what reads like that already gets one more
`25`: `%3A` becomes `%253A`. All other names stay as they are.
"""

from __future__ import annotations

import re
import secrets

from .folders import require_key

MEANT_FOR = "for"
_ESCAPED = re.compile(r"%((?:25)*)3A")


def escaped(key: str) -> str:
    return _ESCAPED.sub(r"%25\g<1>3A", key).replace(":", "%3A")


def unescaped(path: str) -> str:
    return _ESCAPED.sub(lambda found: f"%{found[1][2:]}3A" if found[1] else ":", path)


def path_of(root: str, key: str) -> str:
    """The file of a key. BadConfiguration for a key that would leave the folder or has two spellings."""
    require_key(key)
    return f"{root}/{escaped(key)}"


def new_part_name(number: int) -> str:
    return f"{number}-{secrets.token_hex(4)}"
