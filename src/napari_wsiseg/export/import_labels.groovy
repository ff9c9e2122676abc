/*
 * Imports a label image into QuPath (0.4 or newer) as annotations, one for each class.
 *
 * 1. Open the slide in QuPath.
 * 2. Automate > Script editor, File > Open: this file, from the folder of the label image.
 * 3. Run > Run.
 *
 * $notice
 *
 * Written by napari-wsiseg for one slide and one label image: the numbers below are theirs.
 */
import org.locationtech.jts.geom.util.AffineTransformation
import qupath.lib.analysis.images.ContourTracing
import qupath.lib.common.ColorTools
import qupath.lib.images.servers.ImageServers
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.regions.ImagePlane
import qupath.lib.regions.RegionRequest
import qupath.lib.roi.GeometryTools
import qupath.lib.scripting.QP

def labelImage = $image
// Slide pixels for each pixel of the label image.
double scaleX = ${scale_x}d
double scaleY = ${scale_y}d
// Size of the slide, and the part of it that was scanned (x, y, width, height), in pixels.
def slide = $slide
def scanned = $scanned
// Name, channel and value in the label image, and colour.
def classes = [
$classes
]

def imageData = QP.getCurrentImageData()
if (imageData == null)
    throw new IllegalStateException('No image is open; open the slide first.')
def server = imageData.getServer()
def size = [server.getWidth(), server.getHeight()]

// QuPath shows some slides whole, and of others the scanned part: that is told by the size.
double shiftX = 0
double shiftY = 0
if (size == [scanned[2], scanned[3]]) {
    shiftX = scanned[0]
    shiftY = scanned[1]
} else if (size != slide) {
    throw new IllegalStateException('The open image is ' + size[0] + ' x ' + size[1] +
        ' pixels, and the labels are of a slide of ' + slide[0] + ' x ' + slide[1] +
        '; open that slide.')
}

def here = binding.hasVariable('qupath.script.file') ? binding.getVariable('qupath.script.file') : null
def file = here == null ? null : new File(new File(here.toString()).getParentFile(), labelImage)
if (file == null || !file.exists())
    throw new FileNotFoundException('There is no ' + labelImage +
        ' beside this script; open the script from the folder of the label image and run it again.')

def labels = ImageServers.buildServer(file.toURI().toString())
def toSlide = AffineTransformation.scaleInstance(scaleX, scaleY).translate(-shiftX, -shiftY)
def annotations = []
try {
    def whole = RegionRequest.createInstance(labels, 1.0d)
    classes.each { name, channel, value, color ->
        def outline = ContourTracing.traceGeometry(labels, whole, null, channel, (float) value, (float) value)
        if (outline == null || outline.isEmpty()) {
            println 'There is no ' + name + '.'
            return
        }
        def roi = GeometryTools.geometryToROI(toSlide.transform(outline), ImagePlane.getDefaultPlane())
        def pathClass = PathClass.fromString(name, ColorTools.packRGB(color[0], color[1], color[2]))
        annotations << PathObjects.createAnnotationObject(roi, pathClass)
        println name + ': ' + Math.round(roi.getArea()) + ' square pixels'
    }
} finally {
    labels.close()
}
imageData.getHierarchy().addObjects(annotations)
println annotations.size() + ' annotations were added from ' + labelImage + '.'
