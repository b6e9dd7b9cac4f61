import { ShardspeedError } from "../base/errors.js";
import type { Engine } from "../engine/engine.js";
import { type GenerationOptions, resolveGenerationOptions } from "../engine/generation_options.js";
import { readInitOptions } from "../loading/init.js";
import { ChatLines } from "./chat_lines.js";
import { Conversation, type Turn } from "./conversation.js";
import { nameFlags, toGenerationOptions } from "./flags.js";
import { type LoadFlags, loadModel, readChatTemplate, toInitOptions } from "./load_model.js";
import { Output } from "./output.js";
import { exitCodes, Interrupted, interruptible } from "./report.js";

/** The flags of `shardspeed chat`, besides those of the generation options. */
interface ChatFlags extends LoadFlags {
  system?: string;
  chatTemplate?: string;
  json?: boolean;
}

const help = `/reset        begin a new conversation
/system TEXT  set the system message; without TEXT there is none
/help         show this
/exit         leave, as Ctrl-D does
Ctrl-C stops an answer; where there is none it leaves. A message that begins with / has one more: //
`;

/** `shardspeed chat`: a conversation in the terminal, or a line of the standard input a turn. */
export async function chat(model: string, flags: ChatFlags): Promise<void> {
  await nameFlags(async () => {
    const options = toGenerationOptions(flags);
    // Wrong options are said at once, not after a long load.
    resolveGenerationOptions(options);
    for (const name of ["logprobs", "promptLogprobs"] as const) {
      if (options[name] === undefined) continue;
      throw new ShardspeedError(
        "ERR_INVALID_ARGUMENT",
        `Found ${name}, which a chat does not show. Use shardspeed generate.`,
      );
    }
    for (const name of ["n", "numBeams"] as const) {
      if ((options[name] ?? 1) === 1) continue;
      throw new ShardspeedError(
        "ERR_INVALID_ARGUMENT",
        `Found ${name} ${options[name]}, and a chat has one answer, which comes as a stream. Use shardspeed generate.`,
      );
    }
    readInitOptions(toInitOptions(flags));
    process.stderr.on("error", () => {});
    const { engine, template } = await interruptible(async (signal) => {
      const read = await readChatTemplate(flags.chatTemplate, signal);
      return { template: read, engine: (await loadModel(model, flags, signal)).engine };
    });
    try {
      // Ranks that do not drive compute, and have nothing to say.
      if (!engine.isDriver) return await engine.finished;
      const conversation = new Conversation(engine, options, { system: flags.system, ...template });
      await new Chat(engine, conversation, flags, options).run();
    } finally {
      await engine.dispose();
    }
  });
}

/** The loop of turns, and what signals do to it. */
class Chat {
  readonly #conversation: Conversation;
  readonly #flags: ChatFlags;
  readonly #output = new Output(process.stdout);
  readonly #lines: ChatLines;
  readonly #isTerminal = process.stdin.isTTY === true && process.stdout.isTTY === true;
  /** Stops the answer that is being written. */
  #answering: AbortController | undefined;
  #exitCode: number | undefined;
  readonly #engine: Engine;
  readonly #most: number | undefined;

  constructor(engine: Engine, conversation: Conversation, flags: ChatFlags, { maxNewTokens }: GenerationOptions) {
    this.#engine = engine;
    this.#conversation = conversation;
    this.#flags = flags;
    this.#most = maxNewTokens;
    this.#lines = new ChatLines(process.stdin, process.stdout, () => this.#interrupt());
  }

  /** @throws Interrupted after SIGTERM, and after a SIGINT that met no answer and did not come from a terminal's keyboard. */
  async run(): Promise<void> {
    const onInterrupt = () => this.#interrupt();
    const onTerminate = () => this.#leave(exitCodes.terminated);
    process.on("SIGINT", onInterrupt);
    process.on("SIGTERM", onTerminate);
    this.#output.closed.addEventListener("abort", () => this.#leave(exitCodes.done), { once: true });
    this.#say("/help lists commands, /exit leaves.");
    try {
      for (;;) {
        const line = await this.#lines.next();
        if (line === undefined || this.#exitCode !== undefined || !(await this.#turn(line))) break;
      }
      this.#output.check();
    } finally {
      this.#lines.close();
      process.removeListener("SIGINT", onInterrupt);
      process.removeListener("SIGTERM", onTerminate);
    }
    if (this.#exitCode) throw new Interrupted(this.#exitCode);
  }

  #interrupt(): void {
    if (this.#answering) this.#answering.abort();
    else if (!this.#lines.clear()) this.#leave(this.#isTerminal ? exitCodes.done : exitCodes.interrupted);
  }

  #leave(exitCode: number): void {
    this.#exitCode ??= exitCode;
    this.#answering?.abort();
    this.#lines.close();
  }

  /** Writes a remark, which is no part of an answer, for people only. */
  #say(text: string): void {
    if (this.#isTerminal && !this.#flags.quiet) process.stderr.write(`${text}\n`);
  }

  /** False: it was the last one. */
  async #turn(line: string): Promise<boolean> {
    const message = line.trim();
    if (message === "") return true;
    if (!message.startsWith("/") || message.startsWith("//")) {
      await this.#answer(message.replace(/^\/\//, "/"));
      return this.#exitCode === undefined;
    }
    const [, command, text = ""] = /^\/(\S*)\s*(.*)$/s.exec(message) ?? [];
    if (command === "exit" || command === "quit") return false;
    if (command === "reset") {
      this.#conversation.reset();
      this.#say("A new conversation.");
    } else if (command === "system") {
      this.#conversation.system = text === "" ? undefined : text;
      this.#say(text === "" ? "No system message." : "The system message is set.");
    } else if (command === "help") process.stderr.write(help);
    else process.stderr.write(`shardspeed: there is no command /${command}. /help lists them.\n`);
    return true;
  }

  async #answer(message: string): Promise<void> {
    this.#answering = new AbortController();
    const write = (text: string) => (this.#flags.json ? Promise.resolve() : this.#output.write(text));
    try {
      const turn = await this.#conversation.answer(message, write, this.#answering.signal);
      await this.#show(turn);
    } catch (error) {
      // A turn that cannot be is no reason to leave; an engine that has ended is.
      if (!ShardspeedError.isInstance(error) || this.#engine.disposed) throw error;
      const { code, message: text } = error;
      if (this.#flags.json) await this.#output.write(`${JSON.stringify({ error: { code, message: text } })}\n`);
      else process.stderr.write(`shardspeed: ${text} (${code})\n`);
      if (!this.#isTerminal) process.exitCode = exitCodes.failed;
    } finally {
      this.#answering = undefined;
    }
  }

  async #show({ text, finishReason, usage, isFull }: Turn): Promise<void> {
    if (this.#flags.json) return await this.#output.write(`${JSON.stringify({ text, finishReason, usage })}\n`);
    await this.#output.write("\n");
    if (isFull)
      process.stderr.write(
        "shardspeed: the answer ends here because the context is full. /reset begins a new conversation.\n",
      );
    else if (finishReason === "length") this.#say(`[cut after ${this.#most} tokens: --max-new-tokens]`);
    else if (finishReason === "cancelled") this.#say("[stopped]");
    if (this.#flags.verbose)
      process.stderr.write(`[${usage.promptTokens} tokens in the conversation, ${usage.newTokens} new ones]\n`);
  }
}
