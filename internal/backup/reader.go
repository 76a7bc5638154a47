package backup

import (
	"context"
	"errors"
	"iter"
	"path"
	"sort"
)

// A Backup is a finished backup that was opened: its manifest is authentic. It is for one goroutine.
type Backup struct {
	Manifest Manifest

	container *Container
	folder    string
	keys      *keys

	known  int     // number of the index in memory, 0 if there is none
	chunks []chunk // what it says
}

// Open opens the backup in a folder, which may lie in another folder now but has to have its name. It reads the manifest only.
func Open(ctx context.Context, c *Container, folder string, domain Keys) (*Backup, error) {
	raw, err := c.get(ctx, folder+"/"+manifestName, maxManifest)
	switch {
	case errors.Is(err, errNoBlob):
		return nil, newError(NotFound, "There is no backup in the folder %.200s: it does not exist, or its backup did not finish. "+
			"Name the folder of a backup that succeeded.", folder)
	case errors.Is(err, errTooLarge):
		return nil, damaged("%s is too large", manifestName)
	case err != nil:
		return nil, err
	}
	m, k, err := openManifest(raw, domain)
	if err != nil {
		return nil, err
	}
	if path.Base(folder) != m.Folder {
		return nil, damaged("what is in the folder %.200s was written into %s", folder, m.Folder)
	}
	return &Backup{Manifest: *m, container: c, folder: folder, keys: k}, nil
}

// Records yields the records with this name and all that follow, in order; "" means all. Each is authentic when it is yielded; its
// data stays valid. After an error, which comes last, none of what was yielded must take effect: only without one it is complete.
func (b *Backup) Records(ctx context.Context, from string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := b.each(ctx, from, "", yield); err != nil {
			yield(Record{}, err)
		}
	}
}

// Find yields the records of one name. It reads no more than it has to.
func (b *Backup) Find(ctx context.Context, name string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := b.each(ctx, name, name, yield); err != nil {
			yield(Record{}, err)
		}
	}
}

// each yields the records with the names from, to and all between; to may be "" for no end.
func (b *Backup) each(ctx context.Context, from, to string, yield func(Record, error) bool) error {
	visit := func(r Record) bool { return r.Name < from || (to == "" || r.Name <= to) && yield(r, nil) }
	start, err := b.search(ctx, from)
	if err != nil {
		return err
	}
	last := ""
	var read totals
	for number := start; number <= b.Manifest.Chunks; number++ {
		c, err := b.chunk(ctx, number)
		if err != nil {
			return err
		}
		if c.First < last {
			return damaged("%s is out of order", c.name(dataBlob))
		}
		if last = c.Last; to != "" && c.First > to {
			return nil
		}
		plaintext, err := b.read(ctx, dataBlob, c.blobRef, chunkSize)
		if err != nil {
			return err
		}
		more, err := eachRecord(plaintext, c, visit)
		if err != nil || !more {
			return err
		}
		read.add(c)
	}
	if start == 1 && read != (totals{b.Manifest.Records, b.Manifest.Bytes}) {
		return damaged("its counts differ from those of %s", manifestName)
	}
	return nil
}

// totals are what a whole backup is compared with.
type totals struct{ records, bytes int64 }

func (t *totals) add(c chunk) {
	t.records += int64(c.Records)
	t.bytes += int64(c.Size)
}

// eachRecord calls visit for each record of a data blob until it returns false. All of them are read before the first is
// handed out.
func eachRecord(plaintext []byte, c chunk, visit func(Record) bool) (more bool, err error) {
	records, err := parseChunk(plaintext)
	if err != nil || len(records) != c.Records || records[0].Name != c.First || records[len(records)-1].Name != c.Last {
		return false, damaged("%s is not what its index says", c.name(dataBlob))
	}
	for _, r := range records {
		if !visit(r) {
			return false, nil
		}
	}
	return true, nil
}

// parseChunk reads the records of a data blob, of which there is at least one.
func parseChunk(plaintext []byte) (records []Record, err error) {
	last := ""
	for rest := plaintext; ; {
		var r Record
		if r, rest, err = cutRecord(rest); err != nil {
			return nil, err
		}
		if r.Name < last {
			return nil, errRecord
		}
		last = r.Name
		records = append(records, r)
		if len(rest) == 0 {
			return records, nil
		}
	}
}

// search finds the first data blob whose last record is not before from. It opens indexes by bisecting.
func (b *Backup) search(ctx context.Context, from string) (number int, err error) {
	if from == "" || b.Manifest.Chunks == 0 {
		return 1, nil
	}
	at := sort.Search(len(b.Manifest.Indexes), func(i int) bool {
		if err != nil {
			return true
		}
		if err = b.load(ctx, i+1); err != nil {
			return true
		}
		return b.chunks[len(b.chunks)-1].Last >= from
	})
	if err != nil || at == len(b.Manifest.Indexes) {
		return b.Manifest.Chunks + 1, err
	}
	if err := b.load(ctx, at+1); err != nil {
		return 0, err
	}
	within := sort.Search(len(b.chunks), func(i int) bool { return b.chunks[i].Last >= from })
	return b.chunks[within].Number, nil
}

// chunk returns what the index says of a data blob.
func (b *Backup) chunk(ctx context.Context, number int) (chunk, error) {
	if err := b.load(ctx, (number-1)/chunksInIndex+1); err != nil {
		return chunk{}, err
	}
	return b.chunks[(number-1)%chunksInIndex], nil
}

// load reads an index, if it is not the one in memory.
func (b *Backup) load(ctx context.Context, number int) error {
	if b.known == number {
		return nil
	}
	ref := b.Manifest.Indexes[number-1]
	plaintext, err := b.read(ctx, indexBlob, ref, maxIndex)
	if err != nil {
		return err
	}
	chunks, err := parseIndex(plaintext, number, b.Manifest.Chunks)
	if err != nil {
		return damaged("%s makes no sense", ref.name(indexBlob))
	}
	b.known, b.chunks = number, chunks
	return nil
}

func (b *Backup) read(ctx context.Context, kind blobKind, ref blobRef, limit int) ([]byte, error) {
	sealed, err := b.container.get(ctx, b.folder+"/"+ref.name(kind), limit+overhead)
	switch {
	case errors.Is(err, errNoBlob):
		return nil, damaged("%s is missing", ref.name(kind))
	case errors.Is(err, errTooLarge):
		return nil, damaged("%s was altered", ref.name(kind))
	case err != nil:
		return nil, err
	}
	return b.keys.open(kind, ref, sealed)
}
