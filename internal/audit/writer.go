package audit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
)

// maxChunk is about how many bytes go into one write(2), and, where every record is synced, under one fdatasync.
const maxChunk = 256 << 10

// A chunk is a run of lines that are written together, with the chain as it will stand after each of them.
type chunk struct {
	buf  []byte
	ends []int // end of each line in buf, newline included
	sums []sum
}

// add completes body to the line that follows head in the chain, and returns the new head.
func (c *chunk) add(body []byte, head position) position {
	start := len(c.buf)
	c.buf = append(c.buf, body...)
	c.buf = appendChain(c.buf, head.seq+1, &head.sum)
	next := position{head.seq + 1, sha256.Sum256(c.buf[start:])}
	c.buf = append(c.buf, '\n')
	c.ends = append(c.ends, len(c.buf))
	c.sums = append(c.sums, next.sum)
	return next
}

// whole returns how many lines lie within the first n bytes, and their length.
func (c *chunk) whole(n int) (lines, length int) {
	for lines < len(c.ends) && c.ends[lines] <= n {
		length = c.ends[lines]
		lines++
	}
	return lines, length
}

// run is the writer.
func (l *Log) run() {
	defer close(l.drained)
	for {
		// Those who were just answered, and others who are about to write, come first: one write(2) for all of them costs
		// a fraction of one for each.
		runtime.Gosched()
		batch, calls, more := l.take()
		err := l.prepare(calls)
		l.writeBatch(batch)
		for _, c := range calls {
			c.done <- err
		}
		l.rest(batch)
		if !more {
			return
		}
	}
}

// prepare opens the file anew if one of the calls wants it.
func (l *Log) prepare(calls []call) error {
	for _, c := range calls {
		if c.reopen {
			return l.reopen()
		}
	}
	return nil
}

// take waits for work. It returns no more at the end of the log.
func (l *Log) take() (batch []*entry, calls []call, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && len(l.calls) == 0 && !l.retry && !l.closed {
		l.idle = true
		l.mu.Unlock()
		<-l.wake
		l.mu.Lock()
	}
	l.busySince = time.Now()
	if len(l.queue) > 0 {
		l.busySince = l.queueSince
	}
	l.arm()
	batch, calls = l.queue, l.calls
	l.inflight, l.queue, l.queueBytes, l.spare = batch, l.spare[:0], 0, nil
	l.calls, l.retry = nil, false
	l.makeRoom()
	return batch, calls, !l.closed
}

// rest ends a round of the writer. It keeps batch's storage for a later queue.
func (l *Log) rest(batch []*entry) {
	clear(batch)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spare = batch[:0]
	l.inflight, l.busySince, l.blocked = nil, time.Time{}, false
	// What was refused while the sink hung is told now and not with the next request.
	l.retry = l.retry || l.refused > 0 && l.err == nil && l.lost == nil
}

// makeRoom lets those try again who wait for room in the queue. The caller holds mu.
func (l *Log) makeRoom() {
	if l.space != nil {
		close(l.space)
		l.space = nil
	}
}

// writeBatch writes the notes and the batch, chunk by chunk. It stops when the watchdog has given up on the batch: its
// callers were told no, and so far as their lines are not out, they shall not come.
func (l *Log) writeBatch(batch []*entry) {
	for first := true; first || len(batch) > 0; first = false {
		notes, told := l.pending()
		if notes == 0 && len(batch) == 0 {
			return
		}
		n := l.fill(batch)
		lines, err := l.flush()
		if !l.settle(batch[:n], lines, notes, told, err) {
			return
		}
		batch = batch[n:]
	}
}

// pending begins a chunk with the log's own records. It returns their number and how many refusals they tell.
func (l *Log) pending() (notes int, told uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out.buf, l.out.ends, l.out.sums = l.out.buf[:0], l.out.ends[:0], l.out.sums[:0]
	own := l.notes
	if l.refused > 0 {
		own = append(own[:len(own):len(own)], Record{
			Time: l.cfg.Now(), ResourceID: l.cfg.ResourceID, Operation: OpResumed, ResultType: Success,
			ResultDescription: fmt.Sprintf("%d records were refused since %s because they could not be written",
				l.refused, l.since.UTC().Format(timeLayout)),
		})
	}
	head := l.head
	for i := range own {
		head = l.out.add(appendRecord(nil, &own[i], own[i].Time), head)
	}
	return len(own), l.refused
}

// fill adds records of the batch to the chunk and returns how many.
func (l *Log) fill(batch []*entry) int {
	head := l.outHead()
	for i, e := range batch {
		if len(l.out.buf)+len(e.body) > maxChunk && i > 0 {
			return i
		}
		head = l.out.add(e.body, head)
	}
	return len(batch)
}

// outHead is the chain's head at the end of the chunk.
func (l *Log) outHead() position {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.out.sums); n > 0 {
		return position{l.head.seq + uint64(n), l.out.sums[n-1]}
	}
	return l.head
}

// flush writes the chunk, and syncs it if each record is synced. It returns how many lines are there to stay; of the
// others nothing remains, or the sink is marked torn.
func (l *Log) flush() (lines int, err error) {
	n, err := l.sink.write(l.out.buf)
	lines, kept := l.out.whole(n)
	if err == nil {
		lines, kept = len(l.out.ends), n
	}
	if lines > 0 && l.sink.regular && l.cfg.SyncEvery == 0 {
		if serr := dataSync(l.sink.file); serr != nil {
			lines, kept, err = 0, 0, errors.Join(err, fmt.Errorf("sync: %w", serr))
		}
	}
	if n > kept {
		l.sink.torn = int64(n - kept)
		if l.sink.regular {
			err = errors.Join(err, l.sink.repair())
		}
	}
	return lines, err
}

// settle publishes what flush did and answers the callers. It reports whether to go on with the batch.
func (l *Log) settle(sent []*entry, lines, notes int, told uint64, err error) bool {
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	good := max(lines-notes, 0) // of sent
	l.mu.Lock()
	if lines > 0 {
		l.head = position{l.head.seq + uint64(lines), l.out.sums[lines-1]}
		l.notes = l.notes[min(lines, len(l.notes)):]
		if lines >= notes {
			l.refused -= told
		}
		if l.cfg.SyncEvery == 0 && l.sink.regular {
			l.synced = l.head.seq
		}
	}
	l.err = err
	alive := len(sent) == 0 || l.inflight != nil
	if alive {
		l.inflight = l.inflight[len(sent):]
		l.countRefused(len(sent) - good)
	}
	l.mu.Unlock()
	if alive {
		for i, e := range sent {
			if i < good {
				e.done <- nil
			} else {
				e.done <- err
			}
		}
	}
	l.markDirty()
	return alive
}

// markDirty gives the syncer something to do.
func (l *Log) markDirty() {
	select {
	case l.dirty <- struct{}{}:
	default:
	}
}

// arm sees to it that the watchdog looks at a wait that begins now. The caller holds mu.
func (l *Log) arm() {
	if !l.armed && !l.blocked {
		l.armed = true
		l.watchdog.Reset(l.cfg.Timeout)
	}
}

// watch is the watchdog: when the oldest wait has lasted for the timeout, everybody who waits gets an error.
func (l *Log) watch() {
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest := l.busySince
	if oldest.IsZero() && len(l.queue) > 0 {
		oldest = l.queueSince
	}
	l.armed = !oldest.IsZero()
	if !l.armed {
		return
	}
	if left := l.cfg.Timeout - time.Since(oldest); left > 0 {
		l.watchdog.Reset(left)
		return
	}
	l.armed = false
	l.giveUp()
}

// giveUp refuses all that waits. The writer finds its batch gone when it comes back. The caller holds mu.
func (l *Log) giveUp() {
	l.blocked = true
	for _, list := range [][]*entry{l.inflight, l.queue} {
		l.countRefused(len(list))
		for _, e := range list {
			e.done <- errBlocked
		}
	}
	clear(l.queue)
	l.inflight, l.queue, l.queueBytes = nil, l.queue[:0], 0
	l.makeRoom()
}

// reopen does Reopen's work in the writer.
func (l *Log) reopen() error {
	info, err := os.Lstat(l.cfg.Path)
	if err == nil && l.isCurrent(info) {
		l.mu.Lock()
		l.lost, l.moved = nil, false
		l.mu.Unlock()
		return nil
	}
	next, err := openSink(l.cfg.Path)
	if err != nil {
		return err
	}
	if err := next.mustBeEmpty(); err != nil {
		next.close()
		return fmt.Errorf("audit: %s: %w", l.cfg.Path, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sink.torn > 0 { // nothing but the fragment of a line that was refused is left behind
		l.err = nil
	}
	l.old = append(l.old, l.sink.file)
	l.sink, l.lost, l.moved = next, nil, false
	l.note(OpContinued, Success, fmt.Sprintf("continues the log after line %s", l.head.head()))
	return nil
}

// isCurrent reports whether info is of the file that the log writes to.
func (l *Log) isCurrent(info os.FileInfo) bool {
	current, err := l.sink.file.Stat()
	return err == nil && os.SameFile(current, info)
}

// mustBeEmpty refuses a file with content: after it the chain would not continue ours.
func (s *sink) mustBeEmpty() error {
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if s.regular && info.Size() > 0 {
		return errors.New("the new file is not empty")
	}
	return nil
}

// syncer syncs in the background while there is something to sync, and ends after the writer.
// OnSync knows of told already.
func (l *Log) syncer(told uint64) {
	defer close(l.finished)
	timer := time.NewTimer(l.pace)
	defer timer.Stop()
	for {
		select {
		case <-l.dirty:
		case <-l.drained:
			l.sync(told)
			<-l.guarded
			if l.sink.file != nil {
				l.sink.close()
			}
			return
		}
		timer.Reset(l.pace)
		select {
		case <-timer.C:
		case <-l.drained:
		}
		told = l.sync(told)
		l.probe()
	}
}

// sync makes durable what was written before, closes rotated files, and tells OnSync if there is something newer than
// told. It returns the seq that OnSync knows.
func (l *Log) sync(told uint64) uint64 {
	l.mu.Lock()
	head, current, regular, old, synced := l.head, l.sink.file, l.sink.regular, l.old, l.synced
	l.old = nil
	l.mu.Unlock()
	var err error
	for _, f := range old {
		err = errors.Join(err, dataSync(f), f.Close())
	}
	if regular && head.seq > synced {
		err = errors.Join(err, dataSync(current))
	}
	l.mu.Lock()
	if err != nil {
		l.lost = fmt.Errorf("sync: %w", err)
	} else if head.seq > l.synced {
		l.synced = head.seq
	}
	failed := l.lost != nil
	l.mu.Unlock()
	if failed || head.seq <= told {
		return told
	}
	if l.cfg.OnSync != nil {
		l.cfg.OnSync(head.head())
	}
	return head.seq
}

// guardEvery is how often the guard looks.
const guardEvery = time.Second

// guard looks whether the path still leads to the file that is written, until the writer has ended. Whoever removes or
// renames the file and does not say so has the records go where nobody looks for them.
func (l *Log) guard() {
	defer close(l.guarded)
	if l.cfg.Path == "" {
		return
	}
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.checkPlace()
		case <-l.drained:
			return
		}
	}
}

// checkPlace compares the path with the open file once.
func (l *Log) checkPlace() {
	l.mu.Lock()
	f, regular := l.sink.file, l.sink.regular
	l.mu.Unlock()
	if !regular {
		return
	}
	current, err := f.Stat()
	if err != nil {
		return // rotated away and closed meanwhile
	}
	there, err := os.Stat(l.cfg.Path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return // not to be able to look says nothing
	}
	l.mu.Lock()
	moved := err != nil || !os.SameFile(current, there)
	changed := l.sink.file == f && l.moved != moved
	if changed {
		l.moved = moved
	}
	l.mu.Unlock()
	if changed && l.cfg.OnWarning != nil {
		l.cfg.OnWarning(l.Warning())
	}
}

// probe lets the writer try again while writing fails, for the callers may have been sent away by the log's health.
func (l *Log) probe() {
	l.mu.Lock()
	again := l.err != nil && !l.blocked && l.refused+uint64(len(l.notes)) > 0
	l.retry = l.retry || again
	wake := again && l.takeIdle()
	l.mu.Unlock()
	if wake {
		l.wake <- struct{}{}
	}
}
