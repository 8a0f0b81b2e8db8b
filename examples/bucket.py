"""The same on S3: `python bucket.py s3://bucket/prefix KEY`, where KEY is an image of the bucket.

AWS needs no setting: its own chain of credentials is used. For another server:

    export SEARCHANYTHING_STORAGE__ENDPOINT=127.0.0.1:8333 SEARCHANYTHING_STORAGE__SECURE=false
    export SEARCHANYTHING_STORAGE__ACCESS_KEY=… SEARCHANYTHING_STORAGE__SECRET_KEY=…
"""

from __future__ import annotations

import sys

import searchanything


def main(source: str, key: str) -> None:
    bucket = source.removeprefix("s3://").partition("/")[0]
    with searchanything.connect("bucket.db", preset="pico") as client:
        report = client.index(source)
        print(f"{report.indexed + report.unchanged} images of {source}, {report.failed} failed")
        here = searchanything.Filter(bucket=bucket)
        for hit in client.query(f"s3://{bucket}/{key}", limit=3, filter=here, group_by_image=True):
            print(f"{hit.distance_bits:>4} bits  s3://{hit.image.bucket}/{hit.image.key}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
