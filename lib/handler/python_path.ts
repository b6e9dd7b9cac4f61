/** `os.path.join(folder, name)`: an absolute name wins, and nothing is normalised, so that messages show what the yaml says. */
export function pythonJoin(folder: string, name: string): string {
  if (name.startsWith("/")) return name;
  return folder.endsWith("/") ? folder + name : `${folder}/${name}`;
}
