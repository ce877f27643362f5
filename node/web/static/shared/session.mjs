/** Who is signed in; locking after idle time; signing out. */

import { html, render, useState, useEffect, useRef, signal } from "../vendor/preact.mjs";
import { call, useToken, onLocked } from "./api.mjs";

/** The signed-in person as the server describes them (`Me`). */
export const me = signal(null);
/** null, "warning" (30 s left) or "locked". */
export const lockState = signal(null);

const WARNING_S = 30;
let idleAt = 0;
let tellAt = Date.now() + 60_000; // when the server is told again that somebody is here

/** Take the person of the boot block and start the idle clock. */
export function startSession(person) {
  me.value = person;
  useToken(person.csrf_token);
  onLocked(() => (lockState.value = "locked"));
  if (person.is_locked) lockState.value = "locked";
  touch();
  for (const kind of ["pointerdown", "keydown", "wheel"]) {
    addEventListener(kind, touch, { passive: true, capture: true });
  }
  setInterval(checkIdle, 1000);
  const place = document.createElement("div");
  document.body.append(place);
  render(html`<${Lock} />`, place);
}

/** Whether the person may do this. */
export function may(right) {
  return me.value?.rights.includes(right) ?? false;
}

function touch() {
  idleAt = Date.now() + me.value.settings.idle_lock_s * 1000;
  if (lockState.value === "warning") lockState.value = null;
  if (lockState.value === "locked" || Date.now() < tellAt) return;
  tellAt = Date.now() + 60_000;
  call("/api/me").catch(() => {});
}

function checkIdle() {
  if (lockState.value === "locked") return;
  const left = idleAt - Date.now();
  if (left <= 0) lock();
  else if (left <= WARNING_S * 1000) lockState.value = "warning";
}

/** Hide everything now; work is kept, since every operation is already saved. */
export async function lock() {
  lockState.value = "locked";
  await call("/api/lock", { method: "POST" }).catch(() => {});
}

/** End the session on the server and leave. */
export async function signOut() {
  await call("/api/logout", { method: "POST" }).catch(() => {});
  location.assign("/login");
}

function Lock() {
  const state = lockState.value;
  useEffect(() => {
    document.documentElement.classList.toggle("is-locked", state === "locked");
  }, [state]);
  if (state === "warning") {
    return html`<div class="toast" role="alert">
      This screen locks in ${WARNING_S} seconds. Press any key to stay.
    </div>`;
  }
  return state === "locked" ? html`<${Unlock} />` : null;
}

function Unlock() {
  const [words, setWords] = useState("");
  const [isBusy, setBusy] = useState(false);
  const field = useRef(null);
  useEffect(() => field.current?.focus(), []);
  const unlock = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const person = await call("/api/prove", { body: { password: field.current.value } });
      me.value = person;
      useToken(person.csrf_token);
      lockState.value = null;
      touch();
      dispatchEvent(new Event("bitewing-unlocked"));
    } catch (problem) {
      setWords(problem.words);
      field.current.value = "";
      field.current.focus();
    }
    setBusy(false);
  };
  return html`<div class="lock" role="dialog" aria-modal="true" aria-label="Locked">
    <form onSubmit=${unlock}>
      <h1>Locked</h1>
      <p class="muted">Signed in as ${me.value.display_name}. Your work is kept.</p>
      <input type="text" class="sr-only" tabindex="-1" aria-hidden="true" autocomplete="username"
        value=${me.value.username} readonly />
      <label class="field">Password
        <input ref=${field} type="password" autocomplete="current-password" required />
      </label>
      ${words && html`<p class="notice bad" role="alert">${words}</p>`}
      <button class="primary" disabled=${isBusy}>Unlock</button>
      <button type="button" onClick=${signOut}>Sign in as someone else</button>
    </form>
  </div>`;
}
