// Loaded before the script of a rank that `shardspeed run` has started: ends the rank, and what it has started, when the launcher is gone
// without having been able to do so itself. It says nothing, keeps nothing alive and does nothing in other processes and threads.
import { isMainThread } from "node:worker_threads";

const intervalMs = 250;

const launcher = Number(process.env.SHARDSPEED_WATCHED_LAUNCHER);
// Processes that the script forks load this too, but their parent is another.
delete process.env.SHARDSPEED_WATCHED_LAUNCHER;

/** The rank leads a process group, in which its own children are. */
function endIfLeft(): void {
  if (process.ppid === launcher) return;
  try {
    process.kill(-process.pid, "SIGKILL");
  } catch {
    process.kill(process.pid, "SIGKILL");
  }
}

if (isMainThread && launcher > 0) {
  endIfLeft();
  setInterval(endIfLeft, intervalMs).unref();
}
