package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/protocol"
)

const (
	// endLogSlots is how many ends the log remembers: as many as records may wait for
	// the database.
	endLogSlots = queueBound
	// slotSize is the room for one end, and for the header, in bytes.
	slotSize = 1024
	// endLogSize is that of the file.
	endLogSize = (1 + endLogSlots) * slotSize
	// longestLoggedName is how many bytes of a user's name fit into a slot in any case.
	longestLoggedName = 96
	// replayFor is how old an end may be that is handed to the database again at a
	// start. After that long no ticket is good any more.
	replayFor = 24 * time.Hour
	// endLogRetry is how long the log waits before it tries a failed write again.
	endLogRetry = time.Second
)

// endLog remembers the ends of accepted calls in a file beside the database. An end
// is in the file before anybody is told of it, so that neither a killed server nor a
// database that takes no writes brings an ended call back to life.
//
// The file has a fixed size, which is allocated when it is made: a full disk does not
// stop it. Its first slot is a header, the others are a ring of the last endLogSlots
// ends, each with a checksum. One pwrite puts an end into the page cache, where it
// survives the process. A goroutine flushes the file to the disk within milliseconds:
// only a power cut in that time loses an end, and then the other defenses stand (a
// party is active again only after coming back, and the SDK opens no device for a call
// that its page was not in). To wait for the disk before each announcement would hold
// up every call behind it.
type endLog struct {
	log    *slog.Logger
	failed prometheus.Counter
	dirty  chan struct{} // never closed; one element: something is to be flushed or written

	mu   sync.Mutex
	file *os.File // guarded by mu; nil once it is closed
	// next is the number of the next end; its slot is next modulo endLogSlots. Guarded by mu.
	next uint64
	// ends are the remembered ones; ring names them in the order of their slots. Guarded by mu.
	ends map[protocol.CallID]struct{}
	ring [endLogSlots]loggedEnd
	// since is from when on the log is complete: the end of a call that was accepted
	// later is in it. Guarded by mu.
	since time.Time
	// unwritten are ends that the file did not take, oldest first. Guarded by mu.
	unwritten []loggedEnd
}

// loggedEnd is one end as it stands in the file.
type loggedEnd struct {
	Number uint64 // from 0 on
	// At is when it was handed to the log. A record's end may be earlier.
	At     time.Time
	Record call.Record
}

// endLogHeader is the first slot.
type endLogHeader struct {
	// Since is when the file was made.
	Since time.Time
}

// openEndLog opens the log at path, and makes it where there is none.
func openEndLog(path string, log *slog.Logger, failed prometheus.Counter) (*endLog, error) {
	l := &endLog{log: log, failed: failed, dirty: make(chan struct{}, 1), ends: map[protocol.CallID]struct{}{}}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := makeEndLog(path, time.Now()); err != nil {
			return nil, err
		}
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	l.file = file
	if err := l.read(time.Now()); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), file.Close())
	}
	return l, nil
}

// makeEndLog makes an empty log. It is written under another name first, so that a
// log is either whole or not there.
func makeEndLog(path string, now time.Time) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".ends-*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // gone already when all went well
	header, err := slotOf(endLogHeader{Since: now})
	if err == nil {
		_, err = file.Write(append(header, make([]byte, endLogSize-slotSize)...))
	}
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// slotOf is a value as a slot has it: checksum, JSON, a line feed, zeros.
func slotOf(value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	slot := fmt.Appendf(make([]byte, 0, slotSize), "%08x %s\n", crc32.ChecksumIEEE(body), body)
	if len(slot) > slotSize {
		return nil, fmt.Errorf("%d bytes do not fit into %d", len(slot), slotSize)
	}
	return slot[:slotSize], nil // the rest is zeros
}

var errBadSlot = errors.New("the checksum is wrong")

// parseSlot reads what slotOf made. used is false for a slot that nothing was ever
// written to.
func parseSlot(slot []byte, value any) (used bool, err error) {
	if len(bytes.Trim(slot, "\x00")) == 0 {
		return false, nil
	}
	line, _, ok := bytes.Cut(slot, []byte("\n"))
	sum, body, spaced := bytes.Cut(line, []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !ok || !spaced || err != nil || crc32.ChecksumIEEE(body) != uint32(want) {
		return true, errBadSlot
	}
	return true, json.Unmarshal(body, value)
}

// read takes in what the file has.
func (l *endLog) read(now time.Time) error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < endLogSize {
		return fmt.Errorf("it has %d bytes instead of %d; it can be removed while the server is stopped", info.Size(), endLogSize)
	}
	slots := bufio.NewReaderSize(io.NewSectionReader(l.file, 0, endLogSize), 64*slotSize)
	slot := make([]byte, slotSize)
	var header endLogHeader
	if _, err := io.ReadFull(slots, slot); err != nil {
		return err
	}
	whole := true
	if _, err := parseSlot(slot, &header); err != nil {
		whole = false
	}
	l.since = header.Since
	full, oldest := true, time.Time{}
	for i := range endLogSlots {
		if _, err := io.ReadFull(slots, slot); err != nil {
			return err
		}
		var e loggedEnd
		used, err := parseSlot(slot, &e)
		switch {
		case err != nil || used && e.Number%endLogSlots != uint64(i): //nolint:gosec // i is not negative
			whole = false
		case !used:
			full = false
		default:
			l.ring[i] = e
			l.ends[e.Record.Call] = struct{}{}
			l.next = max(l.next, e.Number+1)
			if oldest.IsZero() || e.At.Before(oldest) {
				oldest = e.At
			}
		}
	}
	if full { // older ends were overwritten
		l.since = oldest
	}
	if !whole { // an end that is not legible may have been any call's
		l.since = now
		l.log.Warn("part of the log of ended calls is not legible; calls from before now are taken up only where the database knows them")
	}
	return nil
}

// add remembers an end. When it returns, the end survives the process, unless the file
// fails; then it is tried again in the background.
func (l *endLog) add(r call.Record, now time.Time) {
	r.Caller.Name = cut(r.Caller.Name)
	r.Callee.Name = cut(r.Callee.Name)
	l.mu.Lock()
	if _, known := l.ends[r.Call]; known || l.file == nil {
		l.mu.Unlock()
		return
	}
	e := loggedEnd{Number: l.next, At: now, Record: r}
	l.next++
	place := &l.ring[e.Number%endLogSlots]
	if place.Record.Call != "" {
		delete(l.ends, place.Record.Call)
		l.since = place.At
	}
	*place = e
	l.ends[r.Call] = struct{}{}
	l.unwritten = append(l.unwritten, e)
	if over := len(l.unwritten) - endLogSlots; over > 0 {
		l.unwritten = l.unwritten[over:] // their slots have newer ends
	}
	err := l.writeLocked()
	l.mu.Unlock()
	if err != nil {
		l.log.Error("the log of ended calls cannot be written; tried again until it can", "error", err)
		l.failed.Inc()
	}
	select {
	case l.dirty <- struct{}{}:
	default:
	}
}

// cut is a name that fits into a slot.
func cut(name string) string {
	if len(name) <= longestLoggedName {
		return name
	}
	return string(bytes.ToValidUTF8([]byte(name[:longestLoggedName]), nil))
}

// writeLocked writes what the file does not have yet.
func (l *endLog) writeLocked() error {
	for len(l.unwritten) > 0 {
		e := l.unwritten[0]
		slot, err := slotOf(e)
		if err != nil {
			return err
		}
		offset := int64(1+e.Number%endLogSlots) * slotSize //nolint:gosec // a small number
		if _, err := l.file.WriteAt(slot, offset); err != nil {
			return err
		}
		l.unwritten = l.unwritten[1:]
	}
	l.unwritten = nil
	return nil
}

// run flushes the file after each end, several at once when they come fast, and tries
// failed writes again, until ctx is done.
func (l *endLog) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.dirty:
		}
		if !l.flush() {
			pause(ctx, endLogRetry)
			select {
			case l.dirty <- struct{}{}:
			default:
			}
		}
	}
}

// flush writes and syncs; it reports whether all of that went well.
func (l *endLog) flush() bool {
	l.mu.Lock()
	file := l.file
	if file == nil {
		l.mu.Unlock()
		return true
	}
	err := l.writeLocked()
	l.mu.Unlock()
	return err == nil && file.Sync() == nil // without the lock: this is what takes its time
}

// ended reports whether a call is known to have ended.
func (l *endLog) ended(id protocol.CallID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ended := l.ends[id]
	return ended
}

// covers reports whether the log would have the end of a call that was accepted then.
func (l *endLog) covers(accepted time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.since.Before(accepted)
}

// youngerThan are the records of ends that were handed over after t, oldest first.
func (l *endLog) youngerThan(t time.Time) []call.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	var records []call.Record
	for n := range uint64(endLogSlots) {
		if e := l.ring[(l.next+n)%endLogSlots]; e.Record.Call != "" && e.At.After(t) {
			records = append(records, e.Record)
		}
	}
	return records
}

// close flushes and closes the file. What is added later is not remembered.
func (l *endLog) close() error {
	l.flush()
	l.mu.Lock()
	defer l.mu.Unlock()
	file := l.file
	l.file = nil
	return file.Close()
}
