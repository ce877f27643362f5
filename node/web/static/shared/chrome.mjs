/** Parts and words that several pages have. */

import { html } from "../vendor/preact.mjs";
import { me, lock, signOut } from "./session.mjs";

export const NOT_CLEARED = "Research and quality-improvement use. Not cleared as a medical device.";
export const SILENT =
	"Silent mode: the models run and are compared, but their suggestions are shown to no one.";

/** The mark. */
export function Mark() {
	return html`<svg viewBox="0 0 24 24" aria-hidden="true" focusable="false">
		<rect x="1.5" y="4.5" width="21" height="15" rx="3.5" fill="none" stroke="#8ec5ff" stroke-width="1.6" />
		<path d="M5 8.2c1.6-1 3.2-.2 3.6.1.5.3 1.3.3 1.8 0 1-.7 2.6-1 3.6.2v2.8H5zM5 15.8c1.6 1 3.2.2 3.6-.1.5-.3 1.3-.3 1.8 0 1 .7 2.6 1 3.6-.2v-2.3H5z" fill="#e8edf2" />
		<path d="M15.5 9v6" stroke="#f28e00" stroke-width="2" stroke-linecap="round" /></svg>`;
}

/** The person's name with lock and sign-out. */
export function Person({ beforeSignOut, onSettings }) {
	const leave = async () => {
		if (beforeSignOut && !(await beforeSignOut())) return;
		signOut();
	};
	return html`<div class="row person">
		<a class="muted ellipsis" href="/account" title="Your account">${me.value.display_name} · ${roleWords(me.value.role)}</a>
		${onSettings && html`<button class="quiet" onClick=${onSettings}>Settings</button>`}
		<button class="quiet" onClick=${lock} title="Lock this screen (Shift+L)">Lock</button>
		<button class="quiet" onClick=${leave}>Sign out</button>
	</div>`;
}

/** A role as people say it. */
export function roleWords(role) {
	return role.replaceAll("_", " ");
}

/** "44 y", "7 mo" or nothing. */
export function ageWords(patient) {
	return patient?.age === null || patient?.age === undefined ? "" : `${patient.age} y`;
}

/** FAMILY, Given. */
export function nameWords(patient) {
	if (!patient) return "Unnamed study";
	const name = [patient.family_name, patient.given_name].filter(Boolean).join(", ");
	return name || "Name not sent";
}

/** 20260105 as 2026-01-05. */
export function dayWords(text) {
	return /^\d{8}$/.test(text ?? "") ? `${text.slice(0, 4)}-${text.slice(4, 6)}-${text.slice(6)}` : text || "";
}

/** A time of today as 10:14, else with its day, in the practice's time zone. */
export function timeWords(iso, timeZone) {
	if (!iso) return "";
	const at = new Date(iso);
	const options = { timeZone: timeZone || undefined };
	const day = (d) => d.toLocaleDateString("sv-SE", options);
	const time = at.toLocaleTimeString("en-GB", { ...options, hour: "2-digit", minute: "2-digit" });
	return day(at) === day(new Date()) ? time : `${day(at)} ${time}`;
}
