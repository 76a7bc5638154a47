package backup

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

const saltSize = 32

// A State is what a writer needs to go on after an interruption. It is for its caller to keep; there is no key in it, but
// names of records.
type State struct {
	Version int       `json:"v"`
	Folder  string    `json:"folder"`
	ID      string    `json:"id"`
	Domain  string    `json:"domain"`
	Salt    []byte    `json:"salt"`
	HSM     string    `json:"hsm"`
	Started time.Time `json:"started"`
	Indexes []blobRef `json:"indexes,omitempty"`
	Pending []chunk   `json:"pending,omitempty"` // data blobs in no index yet
	Progress
}

// Progress is how far a backup is.
type Progress struct {
	Records int64  `json:"records"`
	Chunks  int    `json:"chunks"`
	Bytes   int64  `json:"bytes"`
	Last    string `json:"last"` // name of the last group that is complete; a resumed writer wants what follows it
}

var hsmPattern = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

func (s *State) check() error {
	if s.Version != version || !idPattern.MatchString(s.ID) || !folderPattern.MatchString(s.Folder) || len(s.Salt) != saltSize ||
		s.Chunks != len(s.Indexes)*chunksInIndex+len(s.Pending) {
		return errors.New("backup: the state of the writer makes no sense, or is that of another release")
	}
	return nil
}

// Save keeps a State durably. It is called before the first blob is written, and each time when all that was added so far up
// to the end of a group is in the container. An error stops the writer; so a caller whose lease is lost can end it here.
type Save func(context.Context, State) error

// A Writer writes one backup. It holds two data blobs in memory, however large the backup is. It is for one
// goroutine.
type Writer struct {
	container *Container
	domain    Keys
	keys      *keys
	save      Save
	run       string
	state     State // all that is in the container, the beginning of a group too

	limit  int    // bytes of records in a data blob
	buf    []byte // of the data blob in the making
	spans  []span // of the records in it
	sealed []byte // reused
	last   string // name of the last record added
	failed error  // once set, for good
}

// span is where a record ends in the buffer.
type span struct {
	end  int
	name string
}

// Begin begins a backup of an HSM in a new folder.
func Begin(ctx context.Context, c *Container, domain Keys, hsm string, save Save) (*Writer, error) {
	if !hsmPattern.MatchString(hsm) {
		return nil, fmt.Errorf("backup: bad name of an HSM: %.80q", hsm)
	}
	now := c.storage.now().UTC()
	s := State{
		Version: version, ID: randomHex(16), Domain: domain.ID(), Salt: make([]byte, saltSize), HSM: hsm, Started: now.Truncate(time.Second),
		Folder: fmt.Sprintf("mhsm-%s-%s%02d", hsm, now.Format("20060102150405"), now.Nanosecond()/1e7),
	}
	rand.Read(s.Salt)
	w, err := newWriter(c, domain, s, save)
	if err != nil {
		return nil, err
	}
	if err := save(ctx, w.snapshot()); err != nil {
		return nil, err
	}
	return w, nil
}

// Resume goes on with a backup. The caller adds what follows Progress.Last.
func Resume(c *Container, domain Keys, s State, save Save) (*Writer, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.Domain != domain.ID() {
		return nil, newError(WrongDomain, "The backup was begun with another security domain than the HSM has now. Start a new backup.")
	}
	return newWriter(c, domain, s, save)
}

func newWriter(c *Container, domain Keys, s State, save Save) (*Writer, error) {
	k, err := deriveKeys(domain, s.ID, s.Salt)
	if err != nil {
		return nil, err
	}
	w := &Writer{
		container: c, domain: domain, keys: k, save: save, run: randomHex(8), state: s, last: s.Last, limit: chunkSize,
		buf: make([]byte, 0, chunkSize), sealed: make([]byte, 0, chunkSize+overhead),
	}
	w.state = w.snapshot() // what the caller keeps is not appended to
	return w, nil
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// snapshot is the state, with lists of its own.
func (w *Writer) snapshot() State {
	s := w.state
	s.Indexes, s.Pending, s.Salt = slices.Clone(s.Indexes), slices.Clone(s.Pending), slices.Clone(s.Salt)
	return s
}

// Folder is the name of the backup's folder.
func (w *Writer) Folder() string { return w.state.Folder }

// Add adds a record. Names must not decrease; what was added under an earlier name is complete with that. After
// an error the writer is of no use; its last State is.
func (w *Writer) Add(ctx context.Context, r Record) error {
	if w.failed == nil {
		w.failed = w.add(ctx, r)
	}
	return w.failed
}

func (w *Writer) add(ctx context.Context, r Record) error {
	if err := r.check(); err != nil {
		return err
	}
	if r.Name < w.last || r.Name == w.state.Last {
		return fmt.Errorf("backup: record %s comes after %s", r.Name, w.last)
	}
	if len(w.buf)+r.size() > w.limit {
		if err := w.makeRoom(ctx, r); err != nil {
			return err
		}
	}
	w.buf = appendRecord(w.buf, r)
	w.spans = append(w.spans, span{len(w.buf), r.Name})
	w.last = r.Name
	return nil
}

// makeRoom writes what is complete: groups are not torn if they fit into one blob, so that what a resumed writer finds
// ends with a group.
func (w *Writer) makeRoom(ctx context.Context, r Record) error {
	whole := len(w.spans)
	for whole > 0 && w.spans[whole-1].name == r.Name {
		whole--
	}
	if whole > 0 {
		last := w.spans[whole-1].name
		if err := w.flush(ctx, whole); err != nil {
			return err
		}
		w.state.Last = last
		if err := w.save(ctx, w.snapshot()); err != nil {
			return err
		}
	}
	if len(w.buf)+r.size() <= w.limit {
		return nil
	}
	return w.flush(ctx, len(w.spans))
}

// flush writes the first so many records as a data blob, and an index when it is time.
func (w *Writer) flush(ctx context.Context, records int) error {
	if w.state.Chunks == maxIndexes*chunksInIndex {
		return newError(BadParameter, "The backup would have more than %d blobs.", maxIndexes*chunksInIndex)
	}
	end, last := w.spans[records-1].end, w.spans[records-1].name
	ref, err := w.write(ctx, dataBlob, w.state.Chunks+1, w.buf[:end])
	if err != nil {
		return err
	}
	w.state.Pending = append(w.state.Pending, chunk{blobRef: ref, Records: records, First: w.spans[0].name, Last: last})
	w.state.Chunks++
	w.state.Records += int64(records)
	w.state.Bytes += int64(ref.Size)
	w.spans = slices.Delete(w.spans, 0, records)
	for i := range w.spans {
		w.spans[i].end -= end
	}
	w.buf = append(w.buf[:0], w.buf[end:]...)
	if len(w.state.Pending) == chunksInIndex {
		return w.flushIndex(ctx)
	}
	return nil
}

func (w *Writer) flushIndex(ctx context.Context) error {
	plaintext, err := json.Marshal(index{Version: version, Chunks: w.state.Pending})
	if err != nil {
		return err
	}
	ref, err := w.write(ctx, indexBlob, len(w.state.Indexes)+1, plaintext)
	if err != nil {
		return err
	}
	w.state.Indexes, w.state.Pending = append(w.state.Indexes, ref), nil
	return nil
}

func (w *Writer) write(ctx context.Context, kind blobKind, number int, plaintext []byte) (blobRef, error) {
	w.sealed = w.keys.seal(w.sealed[:0], kind, number, plaintext)
	sum := sha256.Sum256(w.sealed)
	ref := blobRef{Number: number, Run: w.run, Size: len(w.sealed), SHA256: sum[:]}
	return ref, w.container.put(ctx, w.state.Folder+"/"+ref.name(kind), w.sealed, false)
}

// Finish writes what is left, and the manifest. If another writer of the same backup has finished it meanwhile, or this one did
// before it was interrupted, then that is the backup. The manifest returned is that of the backup.
func (w *Writer) Finish(ctx context.Context) (Manifest, error) {
	if w.failed != nil {
		return Manifest{}, w.failed
	}
	m, err := w.finish(ctx)
	if w.failed = err; err == nil {
		w.failed = errors.New("backup: the writer has finished")
	}
	return m, err
}

func (w *Writer) finish(ctx context.Context) (Manifest, error) {
	if len(w.spans) > 0 {
		if err := w.flush(ctx, len(w.spans)); err != nil {
			return Manifest{}, err
		}
	}
	if len(w.state.Pending) > 0 {
		if err := w.flushIndex(ctx); err != nil {
			return Manifest{}, err
		}
	}
	s := &w.state
	m := Manifest{
		Version: version, ID: s.ID, Domain: s.Domain, Salt: s.Salt, HSM: s.HSM, Folder: s.Folder, Started: s.Started,
		Finished: w.container.storage.now().UTC().Truncate(time.Second),
		Records:  s.Records, Chunks: s.Chunks, Bytes: s.Bytes, Indexes: s.Indexes,
	}
	raw, err := w.keys.marshalManifest(&m)
	if err != nil {
		return Manifest{}, err
	}
	err = w.container.put(ctx, s.Folder+"/"+manifestName, raw, true)
	if errors.Is(err, errBlobExists) {
		return w.finished(ctx)
	}
	if err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// finished reads the manifest that is there already.
func (w *Writer) finished(ctx context.Context) (Manifest, error) {
	b, err := Open(ctx, w.container, w.state.Folder, w.domain)
	if err != nil {
		return Manifest{}, err
	}
	if b.Manifest.ID != w.state.ID {
		return Manifest{}, newError(Conflict, "The folder %s holds another backup. Start again.", w.state.Folder)
	}
	return b.Manifest, nil
}
