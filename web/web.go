// Package web carries the built web app inside the program.
//
// It is files only: serving them, their headers and what to say when the app was not built are the
// edge's. Come in through [Site].
package web

import (
	"embed"
	"io/fs"
)

// app/dist always holds a placeholder, so the program compiles without Node; the page itself is in
// app/dist/site, which vite makes and empties.
//
//go:embed all:app/dist
var dist embed.FS

// Site returns the files of the built web app, index.html at the root, and whether it was built.
// When it was not, the file system is nil.
func Site() (fs.FS, bool) {
	site, err := fs.Sub(dist, "app/dist/site")
	if err != nil {
		return nil, false
	}
	if _, err := fs.Stat(site, "index.html"); err != nil {
		return nil, false
	}
	return site, true
}
