import { readdirSync, readFileSync } from "node:fs";

/** Whether the signal could be sent: false where no process of the group is left. */
export function signalGroup(leader: number, signal: NodeJS.Signals): boolean {
  return sendSignal(-leader, signal);
}

/** Whether the signal could be sent: false where there is no such process any more. */
export function sendSignal(target: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(target, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    // Of processes of another user, as after sudo, none may be signalled; they are there all the same.
    if ((error as NodeJS.ErrnoException).code === "EPERM") return true;
    throw error;
  }
}

/** Whether a process of the group still runs. One that has ended and waits for its parent to ask for its code does not. */
export function isGroupAlive(leader: number): boolean {
  if (!sendSignal(-leader, 0)) return false;
  // In a container whose first process never asks, the ended ones stay for ever: only /proc tells them apart.
  const states = listStates(leader);
  return states === undefined || states.some((state) => state !== "Z" && state !== "X");
}

/** The states of a group's processes; undefined where there is no /proc. */
function listStates(leader: number): string[] | undefined {
  let names: string[];
  try {
    names = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  } catch {
    return undefined;
  }
  if (names.length === 0) return undefined;
  return names.flatMap((name) => {
    try {
      const text = readFileSync(`/proc/${name}/stat`, "latin1");
      // The command, in parentheses, may hold anything; state, parent and group follow it.
      const [state, , group] = text.slice(text.lastIndexOf(")") + 2).split(" ");
      return Number(group) === leader && state !== undefined ? [state] : [];
    } catch {
      return []; // gone meanwhile
    }
  });
}
