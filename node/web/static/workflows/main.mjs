/** The console of the workflows: decisions, cases, kinds. */

import { html, render, signal, useEffect } from "../vendor/preact.mjs";
import { boot, call } from "../shared/api.mjs";
import { startSession, me } from "../shared/session.mjs";
import { roving } from "../shared/keys.mjs";
import { Mark, Person } from "../shared/chrome.mjs";
import { Approval, Approvals } from "./approvals.mjs";
import { Case, Cases } from "./cases.mjs";
import { Kinds } from "./kinds.mjs";

const REFRESH_MS = 10_000;
const TABS = [["approvals", "Waiting for a decision"], ["cases", "Cases"], ["kinds", "Workflows"]];
const STATES = [["open", "Open"], ["parked", "Stopped"], ["retrying", "Trying again"], ["waiting", "Waiting"], ["done", "Ended"], ["all", "All"]];

const start = boot();
const tab = signal("approvals");
const state = signal("open");
const chosen = signal("");
const approvals = signal(null);
const cases = signal(null);
const overview = signal(null);
const failure = signal("");

async function load(isBackground = true) {
	try {
		const background = { isBackground };
		if (tab.value === "cases") {
			const wanted = state.value;
			const found = (await call(`/api/cases?state=${wanted}`, background)).cases;
			if (wanted === state.value) cases.value = found;
		}
		if (tab.value === "kinds") overview.value = await call("/api/workflows", background);
		approvals.value = (await call("/api/approvals", background)).approvals;
		failure.value = "";
	} catch (problem) {
		failure.value = problem.words;
	}
}

function show(name) {
	tab.value = name;
	chosen.value = "";
	load(false);
}

function decided() {
	chosen.value = "";
	load(false);
}

function Page() {
	useEffect(() => {
		load(false);
		const timer = setInterval(load, REFRESH_MS);
		addEventListener("bitewing-unlocked", () => load(false));
		return () => clearInterval(timer);
	}, []);
	const zone = me.value.settings.time_zone;
	const waiting = approvals.value?.filter((each) => each.may_decide).length;
	return html`<div class="workflows">
		<a class="skip" href="#lines">Skip to the list</a>
		<header class="topbar"><a class="brand" href="/"><${Mark} /> Bitewing</a>
			<span class="muted ellipsis">${start.practice_name}</span><span class="grow"></span><${Person} /></header>
		<main>
			<h1 class="sr-only">Workflows</h1>
			<div class="tools">
				<div class="tabs" role="tablist" aria-label="Workflows" onKeyDown=${roving}>
					${TABS.map(([name, label]) => html`<button role="tab" key=${name} id=${`tab-${name}`} aria-controls="lines"
						tabindex=${tab.value === name ? 0 : -1} aria-selected=${String(tab.value === name)}
						onClick=${() => show(name)}>${label} ${name === "approvals" && waiting ? html`<b>${waiting}</b>` : ""}</button>`)}
				</div>
				<span class="grow"></span>
				${tab.value === "cases" && html`<select aria-label="Which cases" value=${state.value}
					onChange=${(event) => ((state.value = event.target.value), load(false))}>
					${STATES.map(([value, label]) => html`<option key=${value} value=${value}>${label}</option>`)}</select>`}
			</div>
			${failure.value && html`<div class="notice bad bar" role="alert">${failure.value}</div>`}
			<div class=${`lines ${tab.value === "kinds" ? "wide" : ""}`} id="lines" role="tabpanel"
				aria-labelledby=${`tab-${tab.value}`} tabindex="-1">
				${tab.value === "approvals" && html`<${Approvals} rows=${approvals.value} chosen=${chosen.value} zone=${zone}
					choose=${(id) => (chosen.value = id)} onDecided=${decided} />`}
				${tab.value === "cases" && html`<${Cases} rows=${cases.value} chosen=${chosen.value} zone=${zone}
					choose=${(id) => (chosen.value = id)} />`}
				${tab.value === "kinds" && html`<${Kinds} overview=${overview.value} onTurned=${(now) => (overview.value = now)} />`}
			</div>
			${tab.value !== "kinds" && html`<section class="detail" aria-label="Details">
				${!chosen.value && html`<p class="empty">Choose a line to see it whole.</p>`}
				${chosen.value && tab.value === "approvals" && html`<${Approval} id=${chosen.value} onDecided=${decided} />`}
				${chosen.value && tab.value === "cases" && html`<${Case} id=${chosen.value} zone=${zone} onChanged=${() => load()} />`}
			</section>`}
		</main>
	</div>`;
}

if (start.me) {
	startSession(start.me);
	render(html`<${Page} />`, document.getElementById("app"));
}
