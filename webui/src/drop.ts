// drop.ts - files and whole folders out of a drop or a picker, each with its path below what was dropped.

export interface Found {
  file: File;
  name: string;
}

/* A folder's hidden files (.DS_Store, .git) are nobody's documents. */
const hidden = (path: string) => path.split('/').some((part, i) => i > 0 && part.startsWith('.'));

function fileOf(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

/* readEntries hands out a hundred at a time and says with an empty list that it is done. */
async function children(entry: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = entry.createReader();
  const all: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return all;
    all.push(...some);
  }
}

async function walk(entry: FileSystemEntry, out: Found[]): Promise<void> {
  const name = entry.fullPath.replace(/^\/+/, '');
  if (hidden(name)) return;
  if (entry.isFile) out.push({ file: await fileOf(entry as FileSystemFileEntry), name });
  else for (const child of await children(entry as FileSystemDirectoryEntry)) await walk(child, out);
}

export async function fromDrop(data: DataTransfer): Promise<Found[]> {
  // The list of items is emptied when the event is over, so all entries are taken before anything is awaited.
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter((e): e is FileSystemEntry => !!e);
  if (!entries.length) return fromList(data.files);
  const out: Found[] = [];
  for (const entry of entries) await walk(entry, out);
  return out;
}

export function fromList(list: FileList | null): Found[] {
  return [...(list ?? [])]
    .map((file) => ({ file, name: file.webkitRelativePath || file.name }))
    .filter((f) => !hidden(f.name));
}
