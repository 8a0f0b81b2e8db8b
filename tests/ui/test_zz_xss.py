from __future__ import annotations
import json, re
from pathlib import Path
import numpy as np, pytest
from fakes.pages import HEIGHT, IMAGES, WIDTH, NestingSegmenter, browser, identity
from fakes.serving import Served, listening, png_of
from fakes.standing import add_noise
from searchanything.core.serve_settings import ServeSettings
from searchanything.client.remote_names import image_id

__all__ = ["browser"]
P = '<img src=x onerror="window.pwned=(window.pwned||0)+1">'
N = '"><svg onload=window.pwned=1>'
J = "javascript:window.pwned=1"
NAMES = [
    "a/two.png",
    f"{P}.png",
    f"{N}/{N}.png",
    f"{J}.png",
    "a'\"`$%7B${7*7}{{7*7}}.png",
    "%3Cscript%3Ealert(1)%3C%2Fscript%3E.png",
    "x\u202egnp.exe.png",
    "__proto__",
    "constructor/a.png",
    "b/#?&image=1&region=2.png",
    "nl\n<b>bold.png",
]


def drv(browser, served, url):
    context = browser.new_context(viewport={"width": 1280, "height": 860}, base_url=url)
    page = context.new_page()
    wrong = []
    page.on("pageerror", lambda e: wrong.append(("err", str(e))))
    page.on(
        "request", lambda r: wrong.append(("req", r.url)) if not r.url.startswith((url, "blob:", "data:")) else None
    )
    page.on(
        "console",
        lambda m: (
            wrong.append(("con", m.type, m.text))
            if m.type in ("error", "warning") and "ERR_FAILED" not in m.text
            else None
        ),
    )
    page.on("dialog", lambda d: (wrong.append(("dialog", d.message)), d.dismiss()))
    page.set_default_timeout(60000)
    page.route("**/v1/images/*/thumbnail*", lambda r: r.abort())
    return page, wrong


def check(page, what, out):
    res = page.evaluate(
        "()=>({p:window.pwned||0, img:document.querySelectorAll('img[src=x],svg[onload],b.x,script:not([src])').length, js:[...document.querySelectorAll('a[href^=javascript i]')].length, on:[...document.querySelectorAll('*')].filter(e=>[...e.attributes].some(a=>a.name.startsWith('on'))).length})"
    )
    out.append((what, res))


@pytest.mark.ui
@pytest.mark.timeout(600)
def test_xss(tmp_path, monkeypatch, browser):
    imgs = {n: IMAGES["a/two.png"] if i % 2 == 0 else IMAGES["b/blue.png"] for i, n in enumerate(NAMES)}
    served = Served.make(
        tmp_path,
        monkeypatch,
        images=imgs,
        segmenter=NestingSegmenter(input_size=384),
        words=True,
        settings=ServeSettings(preload=False, webhooks="https://ops.example.org/hooks/"),
    )
    add_noise(served.client)
    out = []
    served_t = (served, None)
    with listening(served) as url:
        page, wrong = drv(browser, served, url)
        page.goto("/?prefix=")
        page.wait_for_selector(".image-tile")
        page.wait_for_timeout(500)
        check(page, "browse", out)
        for row in served.client.images()[0]:
            if row.image.bucket != str(served.folder / "images") and "noise" in row.image.key:
                continue
            page.goto(f"/?image={image_id(row.image)}&region=0")
            try:
                page.wait_for_selector(".hit", timeout=15000)
            except Exception as e:
                out.append(("nohit", row.image.key))
            check(page, "open " + repr(row.image.key), out)
            if len(out) > 16:
                break
        # keep standing with hostile name
        for n in (P, N, J, "__proto__"):
            try:
                page.goto("/")
                page.wait_for_selector(".image-tile")
                page.goto(f"/?image={image_id(served.client.images()[0][0].image)}&region=0")
                page.wait_for_selector(".hit")
                page.locator("#keep").click(timeout=10000)
                page.fill("#standing-name", n)
                page.click("dialog button.primary")
                page.wait_for_timeout(700)
                check(page, "standing " + n, out)
            except Exception as e:
                out.append(("EXC", n[:20], str(e)[:300]))
                page.screenshot(path="/tmp/atta17/s.png")
                continue
            else:
                t = page.locator("#dialog").inner_text()
                out.append(("dialogtext", t[:100]))
        # parameters of the address
        for q in (
            f"?text={P}",
            f"?image={P}",
            f"?upload={P}",
            f"?prefix={P}",
            f"?where={P}",
            f"?q={P}&text={N}",
            "?image=javascript:1&region=<b>",
            f"?bucket={N}&album={P}",
            "#" + P,
        ):
            page.goto("/" + q)
            page.wait_for_timeout(600)
            check(page, "addr " + q, out)
        # words typed
        page.goto("/")
        # upload with hostile name
        page.goto("/")
        inp = page.locator("input[type=file]").first
        for n in (P + ".png", "x.svg", "<b>.html"):
            data = (
                png_of(IMAGES["a/red.png"])
                if n.endswith("png")
                else b'<svg xmlns="http://www.w3.org/2000/svg" onload="window.pwned=1"><script>window.pwned=1</script></svg>'
            )
            inp.set_input_files(
                {"name": n, "mimeType": "image/png" if n.endswith("png") else "image/svg+xml", "buffer": data}
            )
            page.wait_for_timeout(1200)
            check(page, "upload " + n, out)
        page.goto("/docs")
        page.wait_for_timeout(500)
        check(page, "docs", out)
        # filters
        page.goto("/")
        page.click("#filters-button")
        for i in page.locator("#filters input[type=text], #filters input:not([type])").all():
            try:
                i.fill(P)
            except Exception as e:
                pass
        page.keyboard.press("Enter")
        page.wait_for_timeout(800)
        check(page, "filters", out)
        hostile = []
        import urllib.request

        for path in (
            "/",
            "/docs",
            "/openapi.json",
            "/page/app.js",
            "/page/%3Cscript%3E",
            "/nope<script>",
            "/v1/images?limit=<script>",
            "/v1/images/<script>",
            "/v1/uploads/<script>/thumbnail",
            "/page/../../etc/passwd",
            "/page/%2e%2e/%2e%2e/routes.py",
        ):
            r = page.request.get(url + path)
            hostile.append(
                (
                    path,
                    r.status,
                    r.headers.get("content-type"),
                    r.headers.get("content-security-policy", "")[:40],
                    r.headers.get("x-content-type-options"),
                )
            )
    for o in out:
        print(o)
    print("WRONG", wrong)
    for h in hostile:
        print(h)
