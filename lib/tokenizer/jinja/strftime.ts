const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const months = [
  ...["January", "February", "March", "April", "May", "June"],
  ...["July", "August", "September", "October", "November", "December"],
];

/** Python's datetime.strftime in the C locale: local time without a zone. */
export function strftime(date: Date, format: string): string {
  return format.replace(/%([-_0^#]?)([\s\S])/g, (all, flag: string, code: string) => {
    const text = field(date, code);
    if (text === undefined) return all;
    if (flag === "-") return text.replace(/^0+(?=\d)/, "").trimStart();
    return flag === "^" ? text.toUpperCase() : text;
  });
}

function field(date: Date, code: string): string | undefined {
  const two = (value: number) => String(value).padStart(2, "0");
  const day = days[date.getDay()] as string;
  const month = months[date.getMonth()] as string;
  const hour12 = date.getHours() % 12 || 12;
  switch (code) {
    case "a":
      return day.slice(0, 3);
    case "A":
      return day;
    case "b":
    case "h":
      return month.slice(0, 3);
    case "B":
      return month;
    case "c":
      return strftime(date, "%a %b %e %H:%M:%S %Y");
    case "C":
      return two(Math.floor(date.getFullYear() / 100));
    case "d":
      return two(date.getDate());
    case "D":
    case "x":
      return strftime(date, "%m/%d/%y");
    case "e":
      return String(date.getDate()).padStart(2);
    case "f":
      return String(date.getMilliseconds() * 1000).padStart(6, "0");
    case "F":
      return strftime(date, "%Y-%m-%d");
    case "H":
      return two(date.getHours());
    case "I":
      return two(hour12);
    case "j":
      return String(dayOfYear(date)).padStart(3, "0");
    case "k":
      return String(date.getHours()).padStart(2);
    case "l":
      return String(hour12).padStart(2);
    case "m":
      return two(date.getMonth() + 1);
    case "M":
      return two(date.getMinutes());
    case "n":
      return "\n";
    case "p":
      return date.getHours() < 12 ? "AM" : "PM";
    case "R":
      return strftime(date, "%H:%M");
    case "s":
      return String(Math.floor(date.getTime() / 1000));
    case "S":
      return two(date.getSeconds());
    case "t":
      return "\t";
    case "T":
    case "X":
      return strftime(date, "%H:%M:%S");
    case "u":
      return String(date.getDay() || 7);
    case "U":
      return two(Math.floor((dayOfYear(date) + 6 - date.getDay()) / 7));
    case "w":
      return String(date.getDay());
    case "W":
      return two(Math.floor((dayOfYear(date) + 6 - ((date.getDay() + 6) % 7)) / 7));
    case "y":
      return two(date.getFullYear() % 100);
    case "Y":
      return String(date.getFullYear());
    case "z":
    case "Z":
      return "";
    case "%":
      return "%";
  }
  return undefined;
}

function dayOfYear(date: Date): number {
  const midday = (year: number, month: number, day: number) => Date.UTC(year, month, day, 12);
  const now = midday(date.getFullYear(), date.getMonth(), date.getDate());
  return Math.round((now - midday(date.getFullYear(), 0, 0)) / 86_400_000);
}
