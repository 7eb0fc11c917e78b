// Who may call, decided by your application: tokens for its signed-in users, with facts about them sealed inside.
//
//     VOICE_API_KEY=pk_… node token_server.mjs      // Node 18 or newer; then open http://localhost:3000
//
// The secret key stays here. A page gets a token that is good for one call with one agent within a minute, and can
// neither read nor change what is sealed in it; the agent's backend gets that as `call.metadata`.

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

const { VOICE_API_KEY, VOICE_URL = "http://localhost:8080", VOICE_AGENT = "receptionist", PORT = 3000 } = process.env;
if (!VOICE_API_KEY) throw new Error("VOICE_API_KEY is not set");

/** Session -> user. Yours stand in your application, behind a password. */
const users = new Map();

async function page(request, response) {
  response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" });
  response.end(await readFile(new URL("page.html", import.meta.url)));
}

async function signIn(request, response) {
  let form = "";
  for await (const chunk of request) {
    form += chunk;
    if (form.length > 4096) return json(response, 413, { error: "The form is too large" });
  }
  const session = randomUUID();
  const name = (new URLSearchParams(form).get("name") ?? "").slice(0, 80);
  users.set(session, { userId: `u_${users.size + 1}`, name });
  response.writeHead(303, { Location: "/", "Set-Cookie": `session=${session}; HttpOnly; SameSite=Lax; Path=/` });
  response.end();
}

/** The voice server's answer as it is: `{token, server, expires_in, …}`. */
async function voiceToken(request, response) {
  const session = /(?:^|;\s*)session=([^;]+)/.exec(request.headers.cookie ?? "")?.[1];
  const user = users.get(session);
  if (!user) return json(response, 401, { error: "Please sign in first" });

  const query = new URLSearchParams({ agent_id: VOICE_AGENT, metadata: JSON.stringify(user) });
  const headers = { Authorization: `Bearer ${VOICE_API_KEY}` };
  try {
    const answer = await fetch(`${VOICE_URL}/webrtc/token?${query}`, { headers });
    if (answer.status === 401) throw new Error("The voice server refuses our key"); // not our user's fault
    json(response, answer.status, await answer.json());
  } catch (error) {
    const text = error instanceof TypeError ? "The voice server does not answer" : error.message;
    json(response, 502, { error: text });
  }
}

function json(response, status, body) {
  response.writeHead(status, { "Content-Type": "application/json", "Cache-Control": "no-store" });
  response.end(JSON.stringify(body));
}

const routes = { "GET /": page, "POST /sign-in": signIn, "GET /voice-token": voiceToken };

createServer(async (request, response) => {
  const route = routes[`${request.method} ${request.url.split("?")[0]}`];
  try {
    await (route ? route(request, response) : json(response, 404, { error: "Not found" }));
  } catch (error) {
    console.error(error);
    if (!response.headersSent) json(response, 500, { error: "Internal error" });
  }
}).listen(Number(PORT), "127.0.0.1", () => console.log(`http://localhost:${PORT}`));
