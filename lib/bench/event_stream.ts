import { StringDecoder } from "node:string_decoder";

/** Longer events are no tokens: a server gone wrong, which must not fill the memory. */
const mostCharacters = 16 * 2 ** 20;

/** Finds the events of a `text/event-stream` in the pieces that arrive. Comments, names and ids of events are left out. */
export class EventReader {
  readonly #decoder = new StringDecoder("utf8");
  #rest = "";
  #data: string[] = [];

  /**
   * The data of the events that end in this piece.
   *
   * @throws RangeError for an event that does not end.
   */
  push(piece: Buffer): string[] {
    // A line may end in CR LF, and the piece between them.
    const text = this.#rest + this.#decoder.write(piece);
    const lines = text.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > mostCharacters || this.#data.length > mostCharacters / 16) {
      throw new RangeError(`an event of more than ${mostCharacters} characters`);
    }
    const events: string[] = [];
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length > 0) events.push(this.#data.join("\n"));
        this.#data = [];
      } else if (line.startsWith("data:")) {
        this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      }
    }
    return events;
  }
}
