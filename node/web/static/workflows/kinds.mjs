/** Kinds of workflow: how they do, and pausing one, or everything that leaves the house. */

import { html, useEffect, useState } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { may } from "../shared/session.mjs";

/** The table of kinds with their figures of thirty days. */
export function Kinds({ overview, onTurned }) {
	const [failure, setFailure] = useState("");
	if (!overview) return html`<p class="muted">Loading…</p>`;
	const paused = new Set(overview.paused.map((each) => each.scope));
	const turn = async (scope) => {
		try {
			onTurned(await call("/api/switches", { body: { scope, is_paused: !paused.has(scope), reason: "" } }));
		} catch (problem) {
			setFailure(problem.words);
		}
	};
	const Switch = ({ scope, what }) => may("workflows.pause") && html`<button aria-pressed=${String(paused.has(scope))}
		onClick=${() => turn(scope)}>${paused.has(scope) ? `Let ${what} go on` : `Pause ${what}`}</button>`;
	return html`${failure && html`<p class="notice bad" role="alert">${failure}</p>`}
		<p class="row">${paused.has("outbound") && html`<span class="pill bad">Nothing leaves the practice</span>`}
			<${Switch} scope="outbound" what="everything outbound" /></p>
		<table class="kinds"><thead><tr><th>Workflow</th><th>Mode</th><th>Now</th><th>Started, ended</th>
			<th>Median time</th><th>Decisions</th><th>Stopped</th><th>Touches saved</th><th></th></tr></thead>
		<tbody>${overview.workflows.map((each) => html`<tr key=${each.name}>
			<td><b>${each.title}</b>${paused.has(`workflow:${each.name}`) && html` <span class="pill warn">paused</span>`}</td>
			<td>${each.mode}</td>
			<td>${counts(each.figures.states)}</td>
			<td>${each.figures.started}, ${each.figures.ended} ${results(each.figures.results)}</td>
			<td>${span(each.figures.cycle_hours)}</td>
			<td>${each.figures.decisions} (${each.figures.edited} edited, ${each.figures.refused} refused)
				<small class="muted"> ${span(each.figures.decision_hours)}</small></td>
			<td>${each.figures.exceptions}</td>
			<td>${each.figures.touches_saved}</td>
			<td><${Switch} scope=${`workflow:${each.name}`} what="it" /></td></tr>`)}</tbody></table>
		<p class="muted">Figures of thirty days.</p>
		<${Laboratories} />`;
}

/** What the cases that came back say of each laboratory; nothing before the first one has. */
function Laboratories() {
	const [found, setFound] = useState([]);
	const [failure, setFailure] = useState("");
	useEffect(() => {
		call("/api/laboratories").then((answer) => setFound(answer.laboratories), (problem) => setFailure(problem.words));
	}, []);
	if (failure) return html`<p class="notice bad" role="alert">${failure}</p>`;
	if (!found.length) return null;
	return html`<h2 id="laboratories">Laboratories</h2>
		<table class="kinds" aria-labelledby="laboratories"><thead><tr><th>Laboratory</th><th>Cases back</th>
			<th>Half within, nine of ten within</th><th>On time</th><th>Made again</th><th>Median cost</th></tr></thead>
		<tbody>${found.map((each) => html`<tr key=${each.name}>
			<td><b>${each.name}</b></td>
			<td>${each.cases}</td>
			<td>${each.turnaround_days === null ? "–" : `${each.turnaround_days}, ${each.turnaround_p90_days} working days`}</td>
			<td>${share(each.on_time_rate, each.on_time_cases)}</td>
			<td>${each.remakes} of ${each.cases} <small class="muted">(${Math.round(100 * each.remake_rate)} %)</small></td>
			<td>${each.cost ?? "–"}${each.cost !== null && html` <small class="muted">(${each.cost_cases} billed)</small>`}</td>
		</tr>`)}</tbody></table>
		<p class="muted">All cases so far; each round that was made again counts as one.</p>`;
}

function share(rate, cases) {
	return rate === null ? "–" : html`${Math.round(100 * rate)} % <small class="muted">of ${cases}</small>`;
}

function counts(states) {
	return Object.entries(states).map(([state, count]) => `${count} ${state}`).join(", ") || "none";
}

function results(found) {
	const words = Object.entries(found).map(([result, count]) => `${count} ${result}`).join(", ");
	return words && html`<small class="muted">(${words})</small>`;
}

function span(hours) {
	if (hours === null) return "–";
	if (hours < 1) return `${Math.max(1, Math.round(hours * 60))} min`;
	return hours < 48 ? `${hours.toFixed(1)} h` : `${(hours / 24).toFixed(1)} d`;
}
