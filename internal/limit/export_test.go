package limit

// Remembered is how many keys take memory.
func (b *Buckets[K]) Remembered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.young) + len(b.old)
}
