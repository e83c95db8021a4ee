"use strict";

// Time between two looks; heads move every few seconds.
const INTERVAL_MS = 4000;

// Held in memory only: a reload forgets it.
let key = "";
let timer;

const byId = (id) => document.getElementById(id);

// Everything shown comes in as text, so that nothing on chain or in a name can become markup.
function element(name, text, className) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

async function get(path) {
  const answer = await fetch(path, { headers: key ? { "x-api-key": key } : {} });
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.detail), { status: answer.status });
  return body;
}

function headText(chain) {
  const head = chain.head;
  if (!head) return "no head yet";
  const final = head.finalized ? `, final ${head.finalized.number.toLocaleString("en")}` : "";
  const time = new Date(head.timestamp).toLocaleTimeString();
  return `head ${head.latest.number.toLocaleString("en")} at ${time} (${head.level})${final}`;
}

function upstreamRow(upstream) {
  const row = element("tr");
  const latency = upstream.latencyMs === null ? "–" : `${upstream.latencyMs.toFixed(1)} ms`;
  row.append(
    element("td", upstream.name),
    element("td", upstream.state.replace("_", " "), upstream.state),
    element("td", upstream.head ? upstream.head.number.toLocaleString("en") : "–", "number"),
    element("td", latency, "number"),
    element("td", upstream.calls.toLocaleString("en"), "number"),
    element("td", upstream.failures.toLocaleString("en"), "number"),
  );
  row.title = upstream.lastFailure ?? upstream.endpoint;
  return row;
}

function chainSection(chain, upstreams) {
  const section = element("section");
  section.append(
    element("h2", chain.name),
    element("p", `${chain.caip2} · ${headText(chain)}`, "facts"),
  );
  const table = element("table");
  const head = element("tr");
  for (const title of ["Upstream", "State", "Head", "Latency", "Calls", "Failures"]) {
    const cell = element("th", title, ["Upstream", "State"].includes(title) ? "" : "number");
    cell.scope = "col";
    head.append(cell);
  }
  table.append(head, ...upstreams.map(upstreamRow));
  section.append(table);
  return section;
}

async function show() {
  clearTimeout(timer);
  const status = byId("status");
  try {
    const chains = (await get("/v1/chains")).items;
    const upstreams = await Promise.all(
      chains.map((chain) => get(`/v1/chains/${encodeURIComponent(chain.name)}/upstreams`)),
    );
    const sections = chains.map((chain, i) => chainSection(chain, upstreams[i].items));
    byId("chains").replaceChildren(...sections);
    byId("key-form").hidden = true;
    status.textContent = chains.length ? "" : "No chain is configured.";
  } catch (error) {
    const refused = error.status === 401 || error.status === 403;
    byId("key-form").hidden = !refused;
    status.textContent = error.status ? error.message : "The server does not answer.";
    if (refused) return;
  }
  timer = setTimeout(show, INTERVAL_MS);
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value.trim();
  show();
});
show();
