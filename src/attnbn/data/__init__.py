"""Images and what is known about them: readers of data sets, joint transforms, the embedded scenes."""
