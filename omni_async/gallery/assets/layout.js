// Where each card goes: columns of equal width, the next card always in the shortest one, so that clips of all shapes
// leave no holes. The height of a card follows from its shape, so nothing has to be measured on the screen.

const SIZES = [170, 262, 400]; // px: least width of a column for small, medium and large cards, chosen by eye

// Extreme shapes are cropped to keep a very tall or wide clip from filling the screen.
const shapeOf = (job) => {
  const shape = job.width && job.height ? job.width / job.height : job.aspect_ratio || 16 / 9;
  return Math.min(2.6, Math.max(0.4, shape));
};

// A job that ended without a clip has only its error to show.
const ENDED_WITHOUT_CLIP = ["failed", "unknown", "cancelled", "download_failed", "timed_out"];
const ERROR_HEIGHT = 118; // px: the status and four lines of text, see .placeholder in gallery.css

const mediaHeight = (job, width) => {
  const isText = !job.clips.length && (ENDED_WITHOUT_CLIP.includes(job.status) || job.status === "completed");
  return isText ? ERROR_HEIGHT : Math.round(width / shapeOf(job));
};

const columnsFor = (width, size, gap) => Math.max(1, Math.floor((width + gap) / (SIZES[size] + gap)));

const layoutCards = (jobs, width, size, gap, caption) => {
  const columns = columnsFor(width, size, gap);
  const columnWidth = Math.floor((width - gap * (columns - 1)) / columns);
  const bottoms = new Array(columns).fill(0);
  const places = jobs.map((job) => {
    // Rounding makes equal columns differ by up to 1 px; without the tolerance the order would jump between columns.
    let column = 0;
    for (let other = 1; other < columns; other += 1) if (bottoms[other] < bottoms[column] - 1) column = other;
    const media = mediaHeight(job, columnWidth);
    const place = { job, column, x: column * (columnWidth + gap), y: bottoms[column], width: columnWidth, media, height: media + caption };
    bottoms[column] += place.height + gap;
    return place;
  });
  return { places, columns, height: Math.max(0, ...bottoms) - (jobs.length ? gap : 0) };
};

// The index that an arrow key leads to: left and right in the order of the jobs, up and down within the column.
const neighbour = (places, at, key) => {
  if (key === "ArrowLeft") return Math.max(0, at - 1);
  if (key === "ArrowRight") return Math.min(places.length - 1, at + 1);
  if (key === "Home") return 0;
  if (key === "End") return places.length - 1;
  const from = places[at], isDown = key === "ArrowDown";
  let best = at, nearest = Infinity;
  places.forEach((place, index) => {
    if (place.column !== from.column) return;
    const distance = isDown ? place.y - from.y : from.y - place.y;
    if (distance > 0 && distance < nearest) [best, nearest] = [index, distance];
  });
  return best;
};
