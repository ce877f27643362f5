/** The frame of the account pages: who is here, where else to go, what happened. */

import { html, render, signal } from "../vendor/preact.mjs";
import { boot } from "../shared/api.mjs";
import { Mark, NOT_CLEARED, Person } from "../shared/chrome.mjs";
import { say } from "../shared/say.mjs";
import { lockState, may, startSession } from "../shared/session.mjs";

export const start = boot();
/** What went wrong last, in words; empty when nothing did. */
export const failure = signal("");

const PLACES = [
	["/account", "Your account", null],
	["/people", "People and tokens", "users.change"],
	["/emergencies", "Emergency accesses", "glass.review"],
	["/emergency", "Open in an emergency", "glass.break"],
	["/audit", "Audit", "audit.see"],
	["/rollout", "Roll-out", "rollout.see"],
	["/partners", "Partners", "partners.manage"],
	["/fleet", "Locations", "fleet.see"],
];

function Frame({ title, children }) {
	return html`<div class="people">
		<header class="topbar"><a class="brand" href="/"><${Mark} /> Bitewing</a>
			<span class="muted ellipsis">${start.practice_name}</span>
			<nav aria-label="Accounts">${PLACES.filter(([, , right]) => !right || may(right)).map(([path, words]) => html`<a
				key=${path} class="button quiet" href=${path} aria-current=${location.pathname === path ? "page" : undefined}>${words}</a>`)}</nav>
			<span class="grow"></span><${Person} /></header>
		<main><h1>${title}</h1>
			${failure.value && html`<p class="notice bad" role="alert">${failure.value}</p>`}
			${children}</main>
		<footer class="footline"><span>${NOT_CLEARED}</span></footer></div>`;
}

/** Do something; what fails is shown, what succeeds is said. Returns whether it did. */
export async function attempt(action, words = "") {
	failure.value = "";
	try {
		await action();
		if (words) say(words);
		return true;
	} catch (problem) {
		failure.value = problem.words ?? String(problem);
		return false;
	}
}

/** Show a page once somebody is signed in; `load` is called again after unlocking. */
export function open(title, Body, load = () => {}) {
	if (!start.me) return;
	startSession(start.me);
	render(html`<${Frame} title=${title}><${Body} /><//>`, document.getElementById("app"));
	if (lockState.value !== "locked") load();
	addEventListener("bitewing-unlocked", load);
}
