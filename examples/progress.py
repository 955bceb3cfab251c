"""A page that submits a job and shows its progress, over HTTP alone: uvicorn examples.progress:app"""

import os

import httpx2
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

# The token stays on the server: browsers talk to this app, and this app to `gristmill web`.
HEADERS = {"Authorization": f"Bearer {os.environ['GRISTMILL_TOKEN']}"} if "GRISTMILL_TOKEN" in os.environ else {}
DOOR = httpx2.AsyncClient(base_url="http://127.0.0.1:8004/api/v1", headers=HEADERS, timeout=None)
JOB = {"kind": "recommend.pretrain_all", "params": {}}
PAGE = """<!doctype html><button onclick="start()">Refresh everyone</button> <progress value="0"></progress><output>
</output><script>async function start() {
  const job = await (await fetch("/jobs", {method: "POST"})).json(), events = new EventSource(`/jobs/${job.id}`);
  const [bar, said] = document.querySelectorAll("progress, output");
  events.addEventListener("progress", e => { const p = JSON.parse(e.data); bar.max = p.total; bar.value = p.done });
  events.addEventListener("state", e => {
    const s = JSON.parse(e.data); said.value = s.state; if (s.final) events.close()
  });
}</script>"""


async def page(_: Request) -> Response:
    return HTMLResponse(PAGE)


async def submit(_: Request) -> Response:
    made = await DOOR.post("/jobs", json=JOB)
    return JSONResponse(made.json(), made.status_code)


async def events(request: Request) -> Response:
    seen = {"Last-Event-ID": request.headers.get("Last-Event-ID", "0")}  # a browser that comes back misses nothing
    asked = DOOR.build_request("GET", f"/jobs/{request.path_params['job']}/events", headers=seen)
    told = await DOOR.send(asked, stream=True)
    kind, close = told.headers.get("content-type"), BackgroundTask(told.aclose)
    return StreamingResponse(told.aiter_raw(), told.status_code, media_type=kind, background=close)


app = Starlette(routes=[Route("/", page), Route("/jobs", submit, methods=["POST"]), Route("/jobs/{job:uuid}", events)])
