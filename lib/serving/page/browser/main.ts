import { hideCard, watchPointer } from "./answer_view.js";
import { Client } from "./client.js";
import { byId, setText } from "./dom.js";
import { LiveView } from "./live_view.js";
import { ModelChoice } from "./models.js";
import { numberFields, readSampling } from "./sampling.js";
import { Talk } from "./talk.js";

const client = new Client();
const talk = new Talk(client);
const choice = new ModelChoice(client, showChoice);
const live = new LiveView(client, () => choice.model);

const prompt = byId<HTMLTextAreaElement>("prompt");
const send = byId<HTMLButtonElement>("send");
const stop = byId<HTMLButtonElement>("stop");
const key = byId<HTMLInputElement>("key");
const empty = byId("empty");

function showChoice(): void {
  const isChat = choice.mode === "chat";
  setText(byId("prompt-label"), isChat ? "Message" : "Text to continue");
  setText(
    byId("prompt-hint"),
    isChat
      ? "Enter sends, Shift+Enter begins a new line. Escape stops an answer."
      : "Ctrl+Enter sends. Escape stops an answer.",
  );
  byId("system-field").hidden = !isChat;
  live.forget();
  showBusy();
}

/** A button that is switched off loses the focus: it goes to its counterpart. */
function showBusy(): void {
  const { isBusy } = talk;
  const hadFocus = document.activeElement === send || document.activeElement === stop;
  send.disabled = isBusy || choice.model === undefined;
  stop.disabled = !isBusy;
  byId<HTMLButtonElement>("clear").disabled = isBusy;
  if (hadFocus) (isBusy ? stop : send.disabled ? prompt : send).focus();
}

function showFailure(message: string): void {
  byId("failure").hidden = message === "";
  setText(byId("failure"), message);
}

/** Marks the fields that are wrong. @returns What is wrong with them. */
function markFaults(faults: ReadonlyMap<string, string>): string {
  for (const { name } of numberFields) {
    if (faults.has(name)) byId(name).setAttribute("aria-invalid", "true");
    else byId(name).removeAttribute("aria-invalid");
  }
  const [first] = faults.keys();
  if (first === undefined) return "";
  byId<HTMLDetailsElement>("sampling").open = true;
  byId(first).focus();
  return [...faults.values()].join(" ");
}

async function submit(): Promise<void> {
  const { model, mode } = choice;
  if (talk.isBusy || model === undefined) return;
  const typed = prompt.value;
  const { body, faults } = readSampling((name) => byId<HTMLInputElement>(name).value);
  showFailure(markFaults(faults));
  setText(byId("state"), "");
  if (faults.size > 0) return;
  if (typed.trim() === "") {
    showFailure(mode === "chat" ? "Type a message first." : "Type a text to continue first.");
    return prompt.focus();
  }
  const system = byId<HTMLTextAreaElement>("system").value;
  const answered = talk.send({ model, mode, prompt: typed, system, sampling: body });
  if (mode === "chat") prompt.value = "";
  setText(byId("state"), "Waiting for the first token…");
  showBusy();
  const outcome = await answered;
  if (outcome.kind === "failed") {
    showFailure(outcome.message);
    if (mode === "chat" && prompt.value === "") prompt.value = typed;
    void choice.load();
  }
  const states = { done: "The answer is complete.", stopped: "Stopped.", failed: "" };
  setText(byId("state"), states[outcome.kind]);
  showBusy();
}

byId("request").addEventListener("submit", (event) => {
  event.preventDefault();
  void submit();
});
prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing) return;
  const isSent = event.ctrlKey || event.metaKey || (choice.mode === "chat" && !event.shiftKey && !event.altKey);
  if (!isSent) return;
  event.preventDefault();
  void submit();
});
document.addEventListener("keydown", ({ key: pressed, isComposing }) => {
  if (pressed === "Escape" && !isComposing && !hideCard()) talk.stop();
});
stop.addEventListener("click", () => talk.stop());
byId("clear").addEventListener("click", () => {
  talk.clear();
  byId("conversation").append(empty);
  showFailure("");
  setText(byId("state"), "");
  prompt.focus();
});
key.addEventListener("change", () => {
  client.key = key.value.trim();
  showFailure("");
  void choice.load();
});
byId<HTMLInputElement>("shade").addEventListener("change", ({ currentTarget }) => {
  byId("conversation").classList.toggle("shaded", (currentTarget as HTMLInputElement).checked);
});
byId("conversation").classList.toggle("shaded", byId<HTMLInputElement>("shade").checked);

watchPointer();
showChoice();
live.start();
void choice.load();
