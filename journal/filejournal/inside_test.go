package filejournal

// ExportTo is ExportFile on another file system.
var ExportTo = exportFile
