/** Who is signed in; locking after idle time; signing out. */

import { effect, signal } from "../vendor/preact.mjs";
import { call, useToken, onLocked } from "./api.mjs";

/** The signed-in person as the server describes them (`Me`). */
export const me = signal(null);
/** null, "warning" (30 s left) or "locked". */
export const lockState = signal(null);

export const WARNING_S = 30;
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
	addEventListener("pageshow", (event) => event.persisted && location.reload());
	effect(() => {
		document.documentElement.classList.toggle("is-locked", lockState.value === "locked");
		if (lockState.value) import("./lock.mjs").then((module) => module.show(), () => location.reload());
	});
}

/** Whether the person may do this. */
export function may(right) {
	return me.value?.rights.includes(right) ?? false;
}

/** What the person chose for their screen. */
export function prefers(name) {
	return me.value?.preferences[name];
}

/** What was typed as proof: a PIN when the person has one and it looks like one, else the password. */
export function proofOf(text, hasPin = me.value.has_pin) {
	return hasPin && /^\d{6,12}$/.test(text) ? { pin: text } : { password: text };
}

/** Somebody is here: the clock starts again. */
export function touch() {
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
