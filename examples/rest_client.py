"""Ask a running server: `python rest_client.py http://127.0.0.1:8600 IMAGE X,Y`. The light client is enough:
`pip install .` in the checkout.

The server is `searchanything serve`, where the index is. Beyond that machine it asks for a key, which
`searchanything keys add NAME` makes:

SERVE_KEY=sa_… python rest_client.py https://search.example.org photo.jpg 320,240
"""

from __future__ import annotations

import os
import sys

import searchanything


def main(server: str, image: str, place: str) -> None:
    x, y = (float(part) for part in place.split(","))
    with searchanything.RemoteClient(server, key=os.environ.get("SERVE_KEY")) as client:
        print("regions in the index:", client.status()["index"]["regions"])
        results = client.query(image, (x, y), limit=5)
        print("selected:", results.selection.reason)
        for hit in results:
            print(f"{hit.distance_bits:>4} bits  {hit.image.key}  {hit.box_xyxy}")
        if not results.good_match:
            print("no good match: even the nearest is hardly nearer than by chance")
        results.save("answer.png")  # drawn by the server


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
